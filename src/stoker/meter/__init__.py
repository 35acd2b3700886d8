"""What was used and what it costs: usage records, the ledger that keeps them, the keys they are charged to."""

from stoker.meter.usage import UsageRecord

__all__ = ["UsageRecord"]
