"""Approvals: what two people have to sign before it is done, who they are, and what was signed (law 16)."""
