"""Whose rows a tenant receives. They are never another tenant's, unless the tenant is a second place for them (`copyOf`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass

from waybill.canonical import is_uuid
from waybill.configuration.catalog import suggester
from waybill.configuration.registration import Registration
from waybill.errors import Finding
from waybill.language import tell


def one_spelling(id_in_data: str) -> str:
    """Return an id in the data as it is compared with another tenant's. Sources read a UUID in letters of either case, and every other id
    in one spelling.
    """
    return id_in_data.lower() if is_uuid(id_in_data) else id_in_data


@dataclass(frozen=True)
class Reader:
    """Whose rows a tenant receives: its id in the data, and the tenant it is a copy of, if any."""

    tenant: str
    id_in_data: str
    entities: Collection[str]
    copy_of: str | None = None

    @property
    def owner(self) -> str:
        """Return the id in the data in its one spelling. It is the same for all who receive the same rows."""
        return one_spelling(self.id_in_data)

    def may_share_with(self, other: Reader) -> bool:
        """Return whether one of the two receives what the other does on purpose, or both receive what a third one does."""
        return (self.copy_of or self.tenant) == (other.copy_of or other.tenant)


def reader(tenant: str, wanted: Registration, entities: Collection[str]) -> Reader:
    return Reader(tenant, wanted.id_in_data(tenant), entities, wanted.copy_of)


def shared_rows(mine: Reader, others: Iterable[Reader]) -> tuple[str, ...]:
    """Return the entities of which a tenant would receive the rows of another tenant that it is no copy of."""
    rivals = [reader for reader in others if reader.owner == mine.owner and not mine.may_share_with(reader)]
    taken = {entity for reader in rivals for entity in reader.entities}
    return tuple(entity for entity in mine.entities if entity in taken)


def copy_problem(mine: Reader, known: Mapping[str, Reader], file: str = "") -> Finding | None:
    """Return what is wrong with a registration as a copy of another one."""
    if mine.copy_of is None:
        return None
    original = known.get(mine.copy_of)
    if original is None or mine.copy_of == mine.tenant:
        others = [reader.tenant for reader in known.values() if reader.tenant != mine.tenant and reader.copy_of is None]
        what = tell("finding.no_original", tenant=repr(mine.copy_of))
        return Finding(file, "copyOf", what, tell("allowed.no_original"), suggester(others)(mine.copy_of), "unknown_tenant")
    if original.copy_of is not None:
        what = tell("finding.copy_of_a_copy", tenant=mine.copy_of)
        return Finding(file, "copyOf", what, original.copy_of, code="copy_of_a_copy")
    if original.owner != mine.owner:
        theirs, ours = repr(original.id_in_data), repr(mine.id_in_data)
        what = tell("finding.copy_of_other_rows", tenant=mine.copy_of, theirs=theirs, ours=ours)
        return Finding(file, "sourceTenant", what, original.id_in_data, code="copy_of_other_rows")
    return None


def same_rows(entities: Sequence[str], file: str = "") -> Finding:
    """Return the finding that two tenants are read by one id. It names no other tenant, because a tenant may see it."""
    what = tell("finding.source_tenant_taken", entities=", ".join(entities))
    return Finding(file, "sourceTenant", what, tell("allowed.source_tenant_taken"), code="source_tenant_taken")


def sharing_problems(readers: Mapping[str, Reader], files: Mapping[str, str], broken: Set[str]) -> list[Finding]:
    """Return what is wrong among all tenants that have files, by tenant. If two would receive the same rows, both findings say so, because
    nobody knows here which of the two is wrong. `broken` are tenants with findings of their own; their copies are not judged.
    """
    by_id: dict[str, list[Reader]] = {}
    for reader in readers.values():
        by_id.setdefault(reader.owner, []).append(reader)
    found = []
    for together in by_id.values():
        for reader in together:
            problem = copy_problem(reader, readers, files[reader.tenant])
            if problem and reader.copy_of not in broken:
                found.append(problem)
            elif shared := shared_rows(reader, (other for other in together if other is not reader)):
                found.append(same_rows(shared, files[reader.tenant]))
    return found
