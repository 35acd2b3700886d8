"""The watcher of a cluster's nodes and pods: it writes their lives and how they started into the ledger.

seeing     objects of the cluster's API -> lives and phases: pure
pricing    what a machine costs: catalogue, volumes, Auto Mode's fee, spot prices
watcher    looks again and again, and ends what is gone
"""
