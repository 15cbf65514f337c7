"""Tables about asking people: surveys and their question banks, sentiment checks, awareness checks."""

from __future__ import annotations

from datetime import timedelta

from waybill_demo.warehouse import text
from waybill_demo.warehouse.life import Draw, Row, each, following, founded, on_weekday, staff_of, table
from waybill_demo.warehouse.people import uuid_of


@table(
    "id BIGINT, question_text VARCHAR, question_type VARCHAR, topic VARCHAR, language VARCHAR, weight DECIMAL(18,4), is_active BOOLEAN",
    founded(20, then_every=20),
    edit={"weight": lambda d, row: text.decimal(d.r, 3), "is_active": lambda d, row: d.chance(0.8)},
    edits=0.3,
    hour=0,
)
def survey_question_bank(d: Draw) -> Row:
    return {
        "id": d.number,
        "question_text": text.sentence(d.r),
        "question_type": d.one_of("single choice", "rating", "free text"),
        "topic": d.one_of("wellbeing", "leadership", "tools", None),
        "language": d.one_of(*text.LANGUAGES),
        "weight": text.decimal(d.r, 3),
        "is_active": d.chance(0.95),
    }


@table(
    "id BIGINT, question_id BIGINT, answer_text VARCHAR, answer_value BIGINT, sort_order BIGINT, is_active BOOLEAN",
    each("survey_question_bank", 3, 5),
    edit={"answer_text": lambda d, row: text.sentence(d.r)},
    edits=0.1,
)
def survey_question_answer_bank(d: Draw) -> Row:
    return {
        "id": d.number,
        "question_id": d.parent_id(),
        "answer_text": text.sentence(d.r),
        "answer_value": d.upto(4) - 2,
        "sort_order": d.upto(5),
        "is_active": True,
    }


@table(
    "id BIGINT, title VARCHAR, description VARCHAR, created_by VARCHAR, status VARCHAR, opened_at TIMESTAMPTZ, "
    "closes_on DATE, is_anonymous BOOLEAN, target_rate DECIMAL(18,4)",
    on_weekday(1),
    edit={"status": lambda d, row: "closed", "description": lambda d, row: text.maybe(d.r, text.paragraph(d.r))},
    edits=0.9,
    deletes=0.08,
)
def survey_instance(d: Draw) -> Row:
    return {
        "id": d.number,
        "title": text.title(d.r),
        "description": text.maybe(d.r, text.paragraph(d.r)),
        "created_by": d.pick("user"),
        "status": "open",
        "opened_at": d.at,
        "closes_on": (d.at + timedelta(days=14)).date(),
        "is_anonymous": d.chance(0.4),
        "target_rate": text.decimal(d.r, 1),
    }


@table(
    "id BIGINT, survey_instance_id BIGINT, question_id BIGINT, position BIGINT, is_required BOOLEAN, branching JSON",
    each("survey_instance", 4, 8),
    edit={"is_required": lambda d, row: d.chance(0.5)},
    edits=0.1,
    deletes=0.05,
)
def survey_instance_question(d: Draw) -> Row:
    return {
        "id": d.number,
        "survey_instance_id": d.parent_id(),
        "question_id": d.pick("survey_question_bank"),
        "position": d.upto(8),
        "is_required": d.chance(0.6),
        "branching": text.document(d.r, otherwise=d.upto(5)) if d.chance(0.4) else None,
    }


@table(
    "id BIGINT, survey_instance_id BIGINT, user_id VARCHAR, status VARCHAR, invited_at TIMESTAMPTZ, "
    "reminded_at TIMESTAMPTZ, channel VARCHAR",
    staff_of("survey_instance", within=1, share=0.8),
    edit={"status": lambda d, row: "responded", "reminded_at": lambda d, row: d.at},
    edits=0.6,
    deletes=0.03,
    hour=4,
)
def survey_recipient(d: Draw) -> Row:
    return {
        "id": d.number,
        "survey_instance_id": d.parent_id(),
        "user_id": d.pick("user"),
        "status": "invited",
        "invited_at": d.at,
        "reminded_at": None,
        "channel": d.one_of("email", "app", "", None),
    }


@table(
    "id UUID, survey_instance_id BIGINT, recipient_id BIGINT, user_id VARCHAR, survey_instance_question_id BIGINT, "
    "answer_id BIGINT, answer_text VARCHAR, score DOUBLE, answered_at TIMESTAMPTZ",
    following("survey_recipient", within=6, chance=0.6),
    edit={"answer_text": lambda d, row: text.maybe(d.r, text.paragraph(d.r))},
    edits=0.06,
    deletes=0.02,
)
def survey_response(d: Draw) -> Row:
    return {
        "id": uuid_of(d.r),
        "survey_instance_id": d.from_parent("survey_instance_id"),
        "recipient_id": d.parent_id(),
        "user_id": d.from_parent("user_id"),
        "survey_instance_question_id": d.pick("survey_instance_question"),
        "answer_id": d.pick("survey_question_answer_bank"),
        "answer_text": text.maybe(d.r, text.paragraph(d.r)),
        "score": text.number(d.r, 5),
        "answered_at": d.at,
    }


@table(
    "id BIGINT, name VARCHAR, question VARCHAR, frequency VARCHAR, starts_on DATE, is_active BOOLEAN, "
    "alert_below DECIMAL(18,4), audience JSON",
    founded(2, then_every=25),
    edit={"is_active": lambda d, row: not row["is_active"], "alert_below": lambda d, row: text.decimal(d.r, 5)},
    edits=0.6,
    deletes=0.15,
    hour=0,
)
def sentiment_check_configuration(d: Draw) -> Row:
    return {
        "id": d.number,
        "name": text.title(d.r),
        "question": text.sentence(d.r),
        "frequency": d.one_of("weekly", "monthly"),
        "starts_on": d.at.date(),
        "is_active": True,
        "alert_below": text.decimal(d.r, 5),
        "audience": text.document(d.r, departments=[d.one_of(*text.DEPARTMENTS)]),
    }


@table(
    "id UUID, configuration_id BIGINT, user_id VARCHAR, mood VARCHAR, score DOUBLE, comment VARCHAR, "
    "responded_at TIMESTAMPTZ, is_anonymous BOOLEAN",
    staff_of("sentiment_check_configuration", within=60, share=0.02),
    edit={"comment": lambda d, row: text.maybe(d.r, text.sentence(d.r))},
    edits=0.05,
    deletes=0.03,
)
def sentiment_check_response(d: Draw) -> Row:
    return {
        "id": uuid_of(d.r),
        "configuration_id": d.parent_id(),
        "user_id": d.pick("user"),
        "mood": d.one_of("\U0001f600", "\U0001f642", "\U0001f610", "\U0001f641", "☹️"),
        "score": text.number(d.r, 5),
        "comment": text.maybe(d.r, text.sentence(d.r)),
        "responded_at": d.at,
        "is_anonymous": d.chance(0.5),
    }


@table(
    "id BIGINT, content_id BIGINT, question_text VARCHAR, position BIGINT, is_mandatory BOOLEAN, explanation VARCHAR",
    each("content_must_read_marked", 1, 3),
    edit={"question_text": lambda d, row: text.sentence(d.r)},
    edits=0.1,
    deletes=0.06,
)
def awareness_check_question(d: Draw) -> Row:
    return {
        "id": d.number,
        "content_id": d.from_parent("content_id"),
        "question_text": text.sentence(d.r),
        "position": d.upto(5),
        "is_mandatory": d.chance(0.5),
        "explanation": text.maybe(d.r, text.paragraph(d.r)),
    }


@table(
    "id BIGINT, question_id BIGINT, option_text VARCHAR, position BIGINT, is_correct BOOLEAN",
    each("awareness_check_question", 2, 4),
    edit={"option_text": lambda d, row: text.sentence(d.r)},
    edits=0.08,
    deletes=0.04,
)
def awareness_check_option(d: Draw) -> Row:
    return {
        "id": d.number,
        "question_id": d.parent_id(),
        "option_text": text.maybe(d.r, text.sentence(d.r)),
        "position": d.upto(4),
        "is_correct": d.chance(0.4),
    }


@table(
    "id BIGINT, question_id BIGINT, option_id BIGINT, user_id VARCHAR, is_correct BOOLEAN, attempts BIGINT, "
    "seconds_taken DECIMAL(18,4), answered_at TIMESTAMPTZ",
    staff_of("awareness_check_question", within=5, share=0.06),
    edit={"attempts": lambda d, row: row["attempts"] + 1, "is_correct": lambda d, row: d.chance(0.8)},
    edits=0.2,
    deletes=0.02,
)
def awareness_check_response(d: Draw) -> Row:
    return {
        "id": d.number,
        "question_id": d.parent_id(),
        "option_id": d.pick("awareness_check_option"),
        "user_id": d.pick("user"),
        "is_correct": d.one_of(True, False, None),
        "attempts": 1 + d.upto(3),
        "seconds_taken": text.decimal(d.r, 300),
        "answered_at": d.at,
    }


TABLES = (
    survey_question_bank,
    survey_question_answer_bank,
    survey_instance,
    survey_instance_question,
    survey_recipient,
    survey_response,
    sentiment_check_configuration,
    sentiment_check_response,
    awareness_check_question,
    awareness_check_option,
    awareness_check_response,
)
