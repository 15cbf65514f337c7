"""Names and sentences of the demo warehouse. Some of them are chosen because careless exporters break on them."""

from __future__ import annotations

import json
from decimal import Decimal
from random import Random
from typing import Any

PLANTED = "planted-secret-"
"""Every value of a column that must never be delivered begins with this. Tests look for it in everything that Waybill writes."""

FIRST = (
    "Aisha", "Björn", "Chloé", "Đặng", "Ewa", "Fatoumata", "Giuseppe", "Hüseyin", "İpek", "João", "Katarzyna", "Liam",
    "María José", "Noor", "Øyvind", "Priya", "Rosa", "Søren", "Tuomas", "Uche", "Véronique", "Wanjiru", "Ximena", "Zoë",
    "יעל", "محمد", "美咲", "Дмитро", "Ελένη", "सुनीता", "지우", "สมชาย",
)  # fmt: skip
LAST = (
    "Abe", "Brändle", "Castro", "D'Angelo", "Eriksson", "Fofanah", "Grün", "Hernández", "Iyer", "Jensen", "Kowalska",
    "Łukasik", "Müller-Lüdenscheidt", "Nguyễn", "O'Neill", "Patel", "Quispe", "Ramírez", "Smith", "Šťastný", "Tan",
    "Van der Berg", "Yılmaz", "Zhou", "כהן", "الحسن", "佐藤", "Шевченко", "Παπαδοπούλου", "शर्मा",
)  # fmt: skip
WORDS = (
    "agenda", "benefits", "canteen", "deadline", "expenses", "feedback", "goals", "handbook", "intranet", "launch",
    "meeting", "notice", "office", "parking", "quarter", "roadmap", "safety", "team", "update", "visitors", "welcome",
    "Überstunden", "café", "naïve", "façade", "smörgåsbord",
)  # fmt: skip
DEPARTMENTS = ("Sales", "People & Culture", "Research, Development", "Finance", 'The "Lab"', "Operations", "Küche", "")
LANGUAGES = ("en", "de", "fr", "he", "ar", "hi", "ja")

HOSTILE = (
    "A comma, a \"quote\", a 'tick' and a semicolon;",
    'She said ""no"" twice',
    '"',
    ",",
    "first line\nsecond line",
    "Windows line\r\nends here",
    'all at once: "a,b",\n"c\rd",\r\n,""',
    "a lone\rcarriage return",
    "\r",
    "\n\n",
    "tab\there",
    "  edges have spaces  ",
    "#hashtag first",
    "=1+1",
    "-12.50",
    "+49 30 123456",
    "@all please read",
    "'=quoted formula",
    "NULL",
    "\\N",
    "NA",
    "back\\slash \\n is not a newline",
    "party \U0001f389 and family \U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466",
    "flag \U0001f3f3\ufe0f\u200d\U0001f308, old script \U00010345, rare han \U00020bb7",
    "combining cafe\u0301 beside composed caf\u00e9",
    'שלום, "עולם" 123',
    "مرحبا بالعالم\u200f",
    "no-break\u00a0space, zero\u200bwidth, line\u2028separator",
    "日本語、全角カンマ",
    "<b>html</b> &amp; {{ template }} ${shell}",
    "0123",
    "1e5",
    "true",
    "2026-02-30",
)


def sentence(r: Random) -> str:
    """Return a few words. One in eight is hostile."""
    if r.random() < 0.12:
        return r.choice(HOSTILE)
    words = [r.choice(WORDS) for _ in range(r.randint(3, 9))]
    return " ".join(words).capitalize() + "."


def paragraph(r: Random) -> str:
    """Return up to a few sentences, and rarely some 8,000 characters."""
    count = 150 if r.random() < 0.002 else r.randint(1, 4)
    return " ".join(sentence(r) for _ in range(count))


def title(r: Random) -> str:
    if r.random() < 0.06:
        return r.choice(HOSTILE)
    return f"{r.choice(WORDS).capitalize()} {r.choice(WORDS)} {r.randrange(1, 100)}"


def maybe(r: Random, value: str) -> str | None:
    """Return the value, or NULL, or the empty string, which is not the same."""
    die = r.random()
    if die < 0.2:
        return None
    return "" if die < 0.35 else value


def person(r: Random) -> tuple[str, str]:
    return r.choice(FIRST), r.choice(LAST)


def secret(r: Random) -> str:
    return f"{PLANTED}{r.getrandbits(64):016x}"


def decimal(r: Random, top: int) -> Decimal:
    """Return 0 <= d < top with four places, and rarely the largest value that DECIMAL(18,4) holds, or a negative one."""
    die = r.random()
    if die < 0.002:
        return Decimal("99999999999999.9999")
    amount = Decimal(r.randrange(top * 10_000)).scaleb(-4)
    return -amount if die < 0.02 else amount


def number(r: Random, top: float) -> float:
    """Return 0 <= x < top, and sometimes a float that programs spell differently."""
    if r.random() < 0.03:
        odd = (float("nan"), float("inf"), float("-inf"), -0.0, 1e15, 1e-7, 1e300, 5e-324, 0.1 + 0.2, 100.0)
        return r.choice(odd)
    return r.random() * top


def blob(r: Random, size: int) -> bytes | None:
    """Return random bytes; sometimes none, sometimes NULL, often with 0x00 and 0xff among them."""
    die = r.random()
    if die < 0.1:
        return None
    return b"" if die < 0.15 else b"\x00\xff" + r.getrandbits(8 * size).to_bytes(size, "big")


def document(r: Random, **values: Any) -> str | None:
    """Return JSON text: mostly compact, some with spaces or escapes as people's tools write it, sometimes JSON null or SQL NULL."""
    die = r.random()
    if die < 0.08:
        return None
    if die < 0.1:
        return "null"
    whole = {**values, "note": sentence(r), "nested": {"list": [1, 2.5, None, True], "big": 9007199254740993}}
    if die < 0.2:
        return json.dumps(whole, indent=2)
    return json.dumps(whole, ensure_ascii=False, separators=(",", ":"))
