"""`stoker up`: the processes of one machine, started, kept alive and stopped as one.

`up` is the order of things, `plan` turns platform.yaml into processes, `board` decides what to start, restart and stop,
`supervisor` does what the board decided, `children` holds one process, `output` keeps and shows what processes say, and
`state` is the state directory. Nothing here knows HTTP bodies, tasks or models: the processes meet over HTTP and Redis.
"""
