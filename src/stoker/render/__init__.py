"""`platform.yaml` -> every Kubernetes and AWS object of the platform, as files.

`run.render` makes a `plan.Plan` of the spec (who is called what, which instance types do, what refers to what), hands
it to each component of `components.COMPONENTS`, and returns texts by file name. Nothing here reads a clock, a random
number, the network or the machine: the same spec gives the same bytes.
"""
