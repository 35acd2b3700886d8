"""`stoker load`: bounded load on a platform, and how long it took to answer.

`command` is the command, `arrivals` says when what is sent, `driver` sends it, `report` turns what was seen into
numbers, `percentiles` is the arithmetic.
"""

from stoker.cli.load.command import load

__all__ = ["load"]
