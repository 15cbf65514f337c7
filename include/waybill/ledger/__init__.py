"""The ledger: one module per subject, plain functions that take an open transaction."""

from waybill.ledger.engine import Ledger

__all__ = ["Ledger"]
