"""The feed lists every delivery of a tenant under one number each, with the state of the sender. Its bytes are a pure function of the
facts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from waybill.files.manifest import plain
from waybill_consumer.manifest import json_object

FORMAT_VERSION = 1
PAGE = 1000
"""The number of entries of a page that never changes."""

README = b"""\
These files are written by Waybill, which exports data on a schedule.

YYYY/MM/DD/<entity>/<entity>.csv             one delivery: the data
YYYY/MM/DD/<entity>/<entity>.manifest.json   its facts; it comes last, so wait for it before you read the data
YYYY/MM/DD/<entity>/<entity>.manifest.json.sig   where the sender signs: its signature, there before it
YYYY/MM/DD/_MANIFEST.json                    what the date holds, once every entity is there
feed.json                                    every delivery in one numbered list, when the next one is due, and what is wrong now
feed/<id>/page-000001.json ...               older parts of that list; they never change

Where this server cannot replace a file there is no feed.json: read the pages in the order of their numbers. The newest holds the state.
Names that begin with a dot are unfinished: leave them alone. You may move or delete deliveries when you have read them.

`waybill-consumer pull` fetches and checks all of this, and `waybill-consumer load` keeps an exact copy in a database.
The page "Reading the files you receive" of Waybill's documentation describes every file and every field.
"""


def entry(facts: Mapping[str, Any]) -> str:
    """Return one delivery in the list: one line of JSON."""
    return json.dumps(facts, ensure_ascii=False, default=plain)


def feed_document(facts: Mapping[str, Any], entries: Sequence[str]) -> bytes:
    """Return an index or a page: facts first, then `deliveries`, each on a line of its own."""
    head = json.dumps(facts, ensure_ascii=False, indent=2, default=plain)[:-2]
    lines = ",".join(f"\n    {entry}" for entry in entries)
    return f'{head},\n  "deliveries": [{lines}\n  ]\n}}\n'.encode()


def newest_number(data: bytes, tenant: str, feed: str) -> int | None:
    """Return how far an index at a destination reaches. It is 0 for an index of another feed, and None for what is no feed of the
    tenant.
    """
    body = json_object(data) or {}
    last = body.get("last_number")
    if body.get("tenant") != tenant or not isinstance(body.get("feed"), str) or not isinstance(last, int):
        return None
    return last if body["feed"] == feed else 0
