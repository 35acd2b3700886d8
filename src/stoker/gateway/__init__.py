"""The front door: who calls, which model, which replica or the queue, and what it cost.

auth       a key in the header -> who calls
inference  one request: route it, run it on a replica or through the queue, account for it
fleet      which replicas are up, how busy, and which one next
tasks, models, admin   the other routes
settling   usage records from the stream to the ledger
"""
