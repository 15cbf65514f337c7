"""Tenant data exports: planned from a ledger, delivered whole, proven by a manifest."""

__version__ = "0.1.0"
