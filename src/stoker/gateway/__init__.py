"""The front door: who calls, which model, which replica or the queue, and what it cost.

auth       a key in the header -> who calls
inference  one request: route it, run it on a replica or through the queue, account for it
fleet      which replicas are up, how busy, and which one next
relay      what happens to each event on its way to the client
openai, tasks, admin   the routes
openapi    all of them as a document
audited    those that change something, with a record of it
sizes      what one body may hold
metering   usage records to the stream in Redis; settling: from there to the ledger
running    all of it together, from start to end
"""
