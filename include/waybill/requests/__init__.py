"""On-demand exports: a person asks, a worker makes one archive, a link hands it over.

In: a caller with rights, a `Submission`, the installation. Out: an `ExportRequest` in the ledger, an archive, mail.

The way of a request: `submission` (what was sent, checked all at once; `ranges`, `scopes`), `creating` (one insert that takes the place
or finds it taken), `fulfilment/` (a worker's turn, to a whole archive), then `following` (list, read, cancel, delete), `links` and
`mailing`. `rights` says who may, `recurring` asks again every week or month, `upkeep` expires and tidies.
"""

from waybill.ledger.on_demand.request_records import ACTIVE, ExportFile, ExportRequest, Failure, Status
from waybill.requests.ranges import Span
from waybill.requests.states import Refused, refused
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
    "refused",
]
