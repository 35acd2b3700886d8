"""What every package may use and that knows nothing of the domain: errors, clock, ids, units, logging."""
