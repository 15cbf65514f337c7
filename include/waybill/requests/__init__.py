"""On-demand export requests: what they are, which states they pass, what may be asked for. Pure values and rules."""

from waybill.ledger.request_records import ACTIVE, ExportFile, ExportRequest, Failure, Status
from waybill.requests.ranges import Span
from waybill.requests.request import Refused, packed_progress, refused, written_progress
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
    "packed_progress",
    "refused",
    "written_progress",
]
