"""Metrics (and later traces) that every package above emits; the one home of prometheus-client."""
