"""The worker beside each engine: takes tasks while the engine has room, runs them, and leaves cleanly.

runner    one claim: call the engine, publish what it says, finish in one step
loop      how many at once, leases, reclaiming, announcing the replica, draining
notices   whether the machine is taken away, by what its metadata says
metadata  the client of that
"""
