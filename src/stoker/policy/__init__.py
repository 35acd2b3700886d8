"""Pure decisions, shared by the running platform and the simulator: no I/O, no clock, no randomness of their own."""
