"""Tables about what people publish and what others do with it: content, comments, must reads, newsletters."""

from __future__ import annotations

from datetime import date, timedelta

from waybill_demo.warehouse import text
from waybill_demo.warehouse.life import Draw, Row, daily, founded, on_weekday, staff_of, table
from waybill_demo.warehouse.people import APPS, address, uuid_of

FOR_EVER = date(9999, 12, 31)


@table(
    "id BIGINT, site_id BIGINT, author_id VARCHAR, content_type VARCHAR, title VARCHAR, summary VARCHAR, body VARCHAR, "
    "language VARCHAR, status VARCHAR, published_at TIMESTAMPTZ, expires_on DATE, view_count BIGINT, "
    "reading_minutes DOUBLE, tags JSON",
    daily(0.06),
    edit={
        "title": lambda d, row: text.title(d.r),
        "view_count": lambda d, row: row["view_count"] + d.upto(400),
        "status": lambda d, row: d.one_of("published", "published", "unpublished"),
        "published_at": lambda d, row: row["published_at"] or d.at,
    },
    edits=0.6,
    deletes=0.06,
)
def content(d: Draw) -> Row:
    published = d.chance(0.85)
    return {
        "id": d.number,
        "site_id": d.pick("site"),
        "author_id": d.pick("user"),
        "content_type": d.one_of("page", "news", "event", "blog post", "album"),
        "title": text.title(d.r),
        "summary": text.maybe(d.r, text.sentence(d.r)),
        "body": text.paragraph(d.r),
        "language": d.one_of(*text.LANGUAGES),
        "status": "published" if published else "draft",
        "published_at": d.at if published else None,
        "expires_on": d.one_of(None, None, FOR_EVER, (d.at + timedelta(days=d.upto(400))).date()),
        "view_count": d.upto(900),
        "reading_minutes": text.number(d.r, 20),
        "tags": text.document(d.r, tags=[d.one_of(*text.WORDS), d.one_of(*text.WORDS)]),
    }


@table(
    "id BIGINT, content_id BIGINT, author_id VARCHAR, parent_comment_id BIGINT, body VARCHAR, like_count BIGINT, is_edited BOOLEAN",
    daily(0.15),
    edit={"body": lambda d, row: text.sentence(d.r), "is_edited": lambda d, row: True},
    edits=0.15,
    deletes=0.05,
)
def comment(d: Draw) -> Row:
    return {
        "id": d.number,
        "content_id": d.pick("content"),
        "author_id": d.pick("user"),
        "parent_comment_id": d.pick("comment") if d.chance(0.3) else None,
        "body": text.maybe(d.r, text.paragraph(d.r)),
        "like_count": d.upto(30),
        "is_edited": False,
    }


@table(
    "id UUID, user_id VARCHAR, site_id BIGINT, content_id BIGINT, app_id VARCHAR, action VARCHAR, "
    "occurred_at TIMESTAMPTZ, dwell_seconds DOUBLE, search_text VARCHAR, context JSON",
    daily(1.3),
    edit={"dwell_seconds": lambda d, row: text.number(d.r, 900)},
    edits=0.02,
)
def interaction(d: Draw) -> Row:
    return {
        "id": uuid_of(d.r),
        "user_id": d.pick("user"),
        "site_id": d.pick("site"),
        "content_id": d.pick("content"),
        "app_id": d.one_of(*APPS),
        "action": d.one_of("view", "view", "view", "like", "share", "search", "follow"),
        "occurred_at": d.at,
        "dwell_seconds": text.number(d.r, 600),
        "search_text": searched(d),
        "context": text.document(d.r, referrer="/home") if d.chance(0.2) else None,
    }


def searched(d: Draw) -> str | None:
    """The first searches of a tenant are all the hostile texts, so that none is ever missing."""
    if d.number <= len(text.HOSTILE):
        return text.HOSTILE[d.number - 1]
    return text.maybe(d.r, text.sentence(d.r)) if d.chance(0.2) else None


@table(
    "id BIGINT, content_id BIGINT, marked_by VARCHAR, audience VARCHAR, due_on DATE, expected_count BIGINT, "
    "confirmed_count BIGINT, completion_rate DECIMAL(18,4), is_cancelled BOOLEAN",
    daily(0.012),
    edit={
        "confirmed_count": lambda d, row: min(row["expected_count"], row["confirmed_count"] + d.upto(30)),
        "completion_rate": lambda d, row: text.decimal(d.r, 1),
    },
    edits=1.2,
    deletes=0.05,
)
def content_must_read_marked(d: Draw) -> Row:
    return {
        "id": d.number,
        "content_id": d.pick("content"),
        "marked_by": d.pick("user"),
        "audience": d.one_of("everyone", *text.DEPARTMENTS),
        "due_on": d.one_of(None, FOR_EVER, (d.at + timedelta(days=14)).date()),
        "expected_count": d.upto(200),
        "confirmed_count": 0,
        "completion_rate": text.decimal(d.r, 1),
        "is_cancelled": d.one_of(False, False, False, True, None),
    }


@table(
    "id BIGINT, name VARCHAR, description VARCHAR, is_archived BOOLEAN",
    founded(4, then_every=45),
    edit={"description": lambda d, row: text.maybe(d.r, text.sentence(d.r))},
    edits=0.3,
    hour=0,
)
def newsletter_category(d: Draw) -> Row:
    return {
        "id": d.number,
        "name": text.title(d.r),
        "description": text.maybe(d.r, text.sentence(d.r)),
        "is_archived": d.chance(0.1),
    }


@table(
    "id BIGINT, category_id BIGINT, author_id VARCHAR, subject VARCHAR, status VARCHAR, sent_at TIMESTAMPTZ, "
    "recipient_count BIGINT, open_rate DECIMAL(18,4), channels JSON",
    on_weekday(3),
    edit={"open_rate": lambda d, row: text.decimal(d.r, 1), "status": lambda d, row: "sent"},
    edits=1.5,
    deletes=0.05,
    hour=22,
)
def newsletter(d: Draw) -> Row:
    sent = d.chance(0.8)
    return {
        "id": d.number,
        "category_id": d.pick("newsletter_category"),
        "author_id": d.pick("user"),
        "subject": text.sentence(d.r),
        "status": "sent" if sent else "scheduled",
        "sent_at": d.at if sent else None,
        "recipient_count": d.upto(d.company.founders),
        "open_rate": None,
        "channels": text.document(d.r, email=True, sms=d.chance(0.1)),
    }


@table(
    "id UUID, newsletter_id BIGINT, user_id VARCHAR, action VARCHAR, link_url VARCHAR, occurred_at TIMESTAMPTZ, "
    "ip_address VARCHAR, is_mobile BOOLEAN",
    staff_of("newsletter", within=3, share=0.5),
)
def newsletter_interaction(d: Draw) -> Row:
    action = d.one_of("open", "open", "open", "click", "unsubscribe")
    return {
        "id": uuid_of(d.r),
        "newsletter_id": d.parent_id(),
        "user_id": d.pick("user"),
        "action": action,
        "link_url": f"https://intranet.example/?q=a,b&n={d.number}" if action == "click" else None,
        "occurred_at": d.at,
        "ip_address": address(d.r),
        "is_mobile": d.one_of(True, False, None),
    }


TABLES = (
    content,
    comment,
    interaction,
    content_must_read_marked,
    newsletter_category,
    newsletter,
    newsletter_interaction,
)
