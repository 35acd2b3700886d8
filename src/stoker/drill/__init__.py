"""Something dies in a running platform under load, on purpose, and a verdict says whether anything was lost by it.

A drill stands outside: it talks to the platform over HTTP as any client and as its admin, and to its processes by their
ids. `runs` is the order of things, `verdicts` the judgement (pure), `observed` what is judged.
"""
