"""On-demand exports: a person asks, a worker makes one archive, a link hands it over.

In: a caller with rights, a `Submission`, the installation. Out: an `ExportRequest` in the ledger, an archive, mail.

The way of a request: `submission` checks all that was sent (with `ranges` and `scopes`), `creating` inserts it if its place is free,
`fulfilment/` makes the archive, and then come `following` (list, read, cancel, delete), `links` and `mailing`. `rights` says who may do
what (roles and the lives of links are settings of `configuration.policy`), `answers` are what people and programs hear of a request,
`recurring` asks again every week or month, `upkeep` expires and cleans up, and `lifecycle` holds the rules and sentences of one request.
"""

from waybill.ledger.on_demand.request_records import ACTIVE, ExportFile, ExportRequest, Failure, Status
from waybill.requests.lifecycle import Refused
from waybill.requests.ranges import Span
from waybill.requests.submission import Scope, Submission

__all__ = [
    "ACTIVE",
    "ExportFile",
    "ExportRequest",
    "Failure",
    "Refused",
    "Scope",
    "Span",
    "Status",
    "Submission",
]
