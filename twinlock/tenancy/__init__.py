"""Tenants as a whole: what goes when one of them leaves."""
