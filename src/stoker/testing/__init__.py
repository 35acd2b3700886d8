"""Twins and fakes for tests, ours and our users': the edge of the world and nothing else."""

from stoker.testing.clock import ManualClock

__all__ = ["ManualClock"]
