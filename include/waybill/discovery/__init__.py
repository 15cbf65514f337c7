"""From somebody else's database to a catalog: what can be exported, how its changes are found, and what cannot be exported and why.

In: the structure that a source reports of itself (`waybill.sources.structures.base`), and the names of tenant columns. Out: proposals of
entities that pass `waybill check`, as YAML with remarks, and the differences between a catalog and what its source holds now. Nothing is
written to the source.

`tenants` finds out whose rows a table holds, `proposing` makes an entity of it, `naming` names it, `writing` writes it as YAML, and
`projects` puts the YAML into a project folder. `differences` compares a catalog with its source.
"""

from waybill.discovery.differences import Drift, drifts
from waybill.discovery.naming import source_of
from waybill.discovery.proposing import Proposal, Proposed, Skipped, propose
from waybill.discovery.writing import catalog_text, merged

__all__ = ["Drift", "Proposal", "Proposed", "Skipped", "catalog_text", "drifts", "merged", "propose", "source_of"]
