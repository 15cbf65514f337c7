"""On-demand export requests: what they are, which states they pass, what may be asked for. Pure values and rules."""

from waybill.request.model import ACTIVE, ExportFile, ExportRequest, Failure, Status, packed_progress, written_progress
from waybill.request.ranges import Span
from waybill.request.refusals import Refused, refused
from waybill.request.submission import Scope, Submission

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
