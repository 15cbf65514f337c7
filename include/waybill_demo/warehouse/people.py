"""Tables about people and the places they meet: users, logins, sites, themes, feeds, files."""

from __future__ import annotations

from datetime import timedelta
from random import Random

from waybill_demo.warehouse import text
from waybill_demo.warehouse.life import Draw, Row, daily, each, founded, staff, table

APPS = ("web", "ios", "android")


def address(r: Random) -> str:
    """Return an address from the ranges reserved for documentation."""
    if r.random() < 0.2:
        return f"2001:db8::{r.randrange(1, 65536):x}"
    return f"{r.choice(('192.0.2', '198.51.100', '203.0.113'))}.{r.randrange(1, 255)}"


@table(
    "id VARCHAR, employee_number BIGINT, email VARCHAR, first_name VARCHAR, middle_name VARCHAR, last_name VARCHAR, "
    "job_title VARCHAR, department VARCHAR, location VARCHAR, manager_id VARCHAR, locale VARCHAR, hired_on DATE, "
    "weekly_hours DECIMAL(18,4), is_active BOOLEAN, profile JSON, password_hash VARCHAR, recovery_codes JSON",
    staff,
    edit={
        "job_title": lambda d, row: text.title(d.r),
        "department": lambda d, row: d.one_of(*text.DEPARTMENTS),
        "is_active": lambda d, row: d.chance(0.9),
    },
    edits=0.5,
    deletes=0.08,
    hour=0,
)
def user(d: Draw) -> Row:
    first, last = text.person(d.r)
    return {
        "id": f"u-{d.number:06d}",
        "employee_number": 10_000 + d.number,
        "email": f"person{d.number}@{d.company.tenant}.example",
        "first_name": first,
        "middle_name": text.maybe(d.r, d.one_of(*text.FIRST)),
        "last_name": last,
        "job_title": text.title(d.r),
        "department": d.one_of(*text.DEPARTMENTS),
        "location": d.one_of("Berlin", "New York, NY", "पुणे", "São Paulo", None, ""),
        "manager_id": f"u-{d.r.randrange(1, d.number):06d}" if d.number > 1 else None,
        "locale": d.one_of(*text.LANGUAGES),
        "hired_on": (d.at - timedelta(days=d.upto(24_000))).date(),
        "weekly_hours": text.decimal(d.r, 45),
        "is_active": d.chance(0.95),
        "profile": text.document(d.r, skills=[d.one_of(*text.WORDS)], remote=d.chance(0.4)),
        "password_hash": text.secret(d.r),
        "recovery_codes": f'["{text.secret(d.r)}"]',
    }


@table(
    "id VARCHAR, user_id VARCHAR, app_id VARCHAR, occurred_at TIMESTAMPTZ, method VARCHAR, ip_address VARCHAR, "
    "user_agent VARCHAR, session_seconds BIGINT, is_new_device BOOLEAN, session_token VARCHAR",
    daily(0.65),
    edit={"session_seconds": lambda d, row: row["session_seconds"] + d.upto(3600)},
    edits=0.03,
)
def user_login_events(d: Draw) -> Row:
    return {
        "id": f"login-{d.number:08d}",
        "user_id": d.pick("user"),
        "app_id": d.one_of(*APPS),
        "occurred_at": d.at,
        "method": d.one_of("sso", "sso", "email link", "passkey"),
        "ip_address": address(d.r),
        "user_agent": text.maybe(d.r, f'Browser/{d.r.randrange(90, 140)}.0 (X11; Linux) like, "Gecko"'),
        "session_seconds": d.upto(28_800),
        "is_new_device": d.one_of(True, False, False, False, None),
        "session_token": text.secret(d.r),
    }


@table(
    "id BIGINT, name VARCHAR, description VARCHAR, sort_order BIGINT, is_archived BOOLEAN",
    founded(6, then_every=40),
    edit={"is_archived": lambda d, row: d.chance(0.2)},
    edits=0.3,
    hour=0,
)
def site_category(d: Draw) -> Row:
    return {
        "id": d.number,
        "name": text.title(d.r),
        "description": text.maybe(d.r, text.sentence(d.r)),
        "sort_order": d.number * 10,
        "is_archived": False,
    }


@table(
    "id BIGINT, category_id BIGINT, owner_id VARCHAR, name VARCHAR, description VARCHAR, visibility VARCHAR, "
    "is_featured BOOLEAN, member_count BIGINT, storage_quota_gb DECIMAL(18,4), settings JSON",
    founded(12, then_every=6),
    edit={
        "member_count": lambda d, row: row["member_count"] + d.upto(9),
        "description": lambda d, row: text.maybe(d.r, text.paragraph(d.r)),
    },
    edits=0.8,
    deletes=0.1,
    hour=0,
)
def site(d: Draw) -> Row:
    return {
        "id": d.number,
        "category_id": d.pick("site_category"),
        "owner_id": d.pick("user"),
        "name": text.title(d.r),
        "description": text.maybe(d.r, text.paragraph(d.r)),
        "visibility": d.one_of("public", "private", "unlisted"),
        "is_featured": d.chance(0.2),
        "member_count": d.upto(200),
        "storage_quota_gb": text.decimal(d.r, 500),
        "settings": text.document(d.r, landing="feed", columns=d.upto(3)),
    }


@table(
    "id BIGINT, name VARCHAR, primary_colour VARCHAR, is_default BOOLEAN, logo BLOB, palette JSON",
    founded(3, then_every=30),
    edit={"palette": lambda d, row: text.document(d.r, accent="#00aa88")},
    edits=0.4,
    hour=0,
)
def theme(d: Draw) -> Row:
    return {
        "id": d.number,
        "name": text.title(d.r),
        "primary_colour": f"#{d.r.randrange(1 << 24):06x}",
        "is_default": d.number == 1,
        "logo": text.blob(d.r, 48),
        "palette": text.document(d.r, accent="#ff8800"),
    }


@table(
    "id UUID, site_id BIGINT, theme_id BIGINT, section_type VARCHAR, title VARCHAR, position BIGINT, is_visible BOOLEAN, layout JSON",
    each("site", 2, 5),
    edit={"position": lambda d, row: d.upto(12), "is_visible": lambda d, row: d.chance(0.7)},
    edits=0.4,
    deletes=0.1,
)
def section_instance(d: Draw) -> Row:
    return {
        "id": uuid_of(d.r),
        "site_id": d.parent_id(),
        "theme_id": d.pick("theme"),
        "section_type": d.one_of("hero", "news", "people", "links", "calendar"),
        "title": text.maybe(d.r, text.title(d.r)),
        "position": d.upto(9),
        "is_visible": d.chance(0.9),
        "layout": text.document(d.r, width=d.upto(12), full_bleed=d.chance(0.3)),
    }


@table(
    "id UUID, site_id BIGINT, author_id VARCHAR, post_text VARCHAR, posted_at TIMESTAMPTZ, attachment_count BIGINT, "
    "is_pinned BOOLEAN, reactions JSON, webhook_secret VARCHAR, connection JSON",
    daily(0.05),
    edit={"is_pinned": lambda d, row: not row["is_pinned"], "post_text": lambda d, row: text.paragraph(d.r)},
    edits=0.2,
    deletes=0.05,
)
def feed(d: Draw) -> Row:
    return {
        "id": uuid_of(d.r),
        "site_id": d.pick("site"),
        "author_id": d.pick("user"),
        "post_text": text.maybe(d.r, text.paragraph(d.r)),
        "posted_at": d.at,
        "attachment_count": d.upto(4),
        "is_pinned": d.chance(0.05),
        "reactions": text.document(d.r, like=d.upto(40), party=d.upto(9)),
        "webhook_secret": text.secret(d.r),
        "connection": f'{{"kind":"oauth2","access_token":"{text.secret(d.r)}"}}',
    }


@table(
    "id UUID, site_id BIGINT, uploaded_by VARCHAR, file_name VARCHAR, mime_type VARCHAR, size_bytes BIGINT, "
    "checksum BLOB, is_external BOOLEAN, storage_cost DECIMAL(18,4), attributes JSON",
    daily(0.04),
    edit={"file_name": lambda d, row: f"{text.title(d.r)}.pdf", "size_bytes": lambda d, row: d.upto(1 << 40)},
    edits=0.15,
    deletes=0.12,
)
def file(d: Draw) -> Row:
    suffix, mime = d.one_of(("pdf", "application/pdf"), ("png", "image/png"), ("txt", "text/plain; charset=utf-8"))
    return {
        "id": uuid_of(d.r),
        "site_id": d.pick("site"),
        "uploaded_by": d.pick("user"),
        "file_name": f"{text.title(d.r)}.{suffix}",
        "mime_type": d.one_of(mime, mime, mime, None),
        "size_bytes": d.upto(1 << 33),
        "checksum": text.blob(d.r, 32),
        "is_external": d.chance(0.1),
        "storage_cost": text.decimal(d.r, 20),
        "attributes": text.document(d.r, pages=d.upto(90)),
    }


def uuid_of(r: Random) -> str:
    digits = f"{r.getrandbits(128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-8{digits[17:20]}-{digits[20:]}"


TABLES = (user, user_login_events, site_category, site, theme, section_instance, feed, file)
