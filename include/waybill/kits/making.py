"""Makes a kit as its files, whole. The caller decides where they go."""

from __future__ import annotations

import json

from waybill.errors import PermanentError
from waybill.installation import PRODUCED_BY, Installation
from waybill.kits.describing import descriptions
from waybill.kits.dialects import database
from waybill.kits.samples import samples
from waybill.kits.statements import statements
from waybill.kits.tables import subject_of

FACTS = "kit.json"
"""Names the files of a kit, so that a newer one can take the place of an older one."""


def kit_of(installation: Installation, tenant: str, dialect: str) -> dict[str, bytes]:
    """Return the files of a tenant's kit by their path. Raises PermanentError for an unknown dialect or tenant, or one that receives
    nothing.
    """
    target = database(dialect)
    subject = subject_of(installation, tenant)
    if subject.format not in target.reading:
        raise PermanentError(
            f"a kit for {target.title} reads {' and '.join(target.reading)}, and {tenant} receives {subject.format}",
            next_step="Set files: {format: csv} for the tenant, or load with `waybill-consumer load`",
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
