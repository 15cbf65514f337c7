"""Tenant data exports that are planned from a ledger, delivered whole, and proven by a manifest."""

__version__ = "0.1.0"
