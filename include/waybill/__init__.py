"""Tenant data exports: planned from a ledger, delivered whole, proven by a manifest."""
