"""What `python -m stoker.train` and `stoker train` end with."""

COMPLETED = 0
FAILED = 1
ASKED_WRONGLY = 2
PREEMPTED = 75
"""Saved, and not finished: begin again with the same command (EX_TEMPFAIL of sysexits.h)."""
BUDGET_SPENT = 76
"""Saved, and not finished: beginning again spends more than was allowed."""
FENCED = 77
"""Another launch of the same run has taken over; this one wrote nothing more."""

DIVERGED = 78
"""The loss or a gradient is not a number any more. Beginning again from the same checkpoint comes to the same."""
