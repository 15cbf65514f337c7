"""Makes a kit as its files, whole. The caller decides where they go."""

from __future__ import annotations

import json

from waybill.errors import PermanentError
from waybill.installation import PRODUCED_BY, Installation
from waybill.kits.describing import descriptions
from waybill.kits.dialects import Dialect, database
from waybill.kits.samples import samples
from waybill.kits.statements import statements
from waybill.kits.tables import subject_of
from waybill.language import tell

FACTS = "kit.json"
"""Names the files of a kit, so that a newer one can take the place of an older one."""


def kit_of(installation: Installation, tenant: str, dialect: Dialect) -> dict[str, bytes]:
    """Return the files of a tenant's kit by their path.

    Raises PermanentError for an unknown tenant, for one that receives nothing, and for one whose files the database cannot read.
    """
    target = database(dialect)
    subject = subject_of(installation, tenant)
    if subject.style.format not in target.reading:
        raise PermanentError(
            tell("call.kit_format", database=target.title, formats=", ".join(target.reading), tenant=tenant, format=subject.style.format),
            next_step=tell("call.kit_format_step"),
            code="no_kit",
        )
    texts = {**dict(statements(subject, target)), **dict(descriptions(subject, target))}
    files = {**{path: text.encode() for path, text in texts.items()}, **dict(samples(subject))}
    facts = {
        "tenant": tenant,
        "dialect": dialect,
        "was_run": target.was_run,
        "entities": [{"id": table.id, "name": table.name, "schema_version": table.schema_version} for table in subject.tables],
        "produced_by": PRODUCED_BY,
        "files": sorted(files),
    }
    return {FACTS: (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode(), **dict(sorted(files.items()))}
