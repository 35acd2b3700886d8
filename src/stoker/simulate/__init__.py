"""Manifests, a trace of requests and prices -> what would happen: replicas, nodes, latencies, dollars, and why.

    scenario    what the manifests say: workloads, scalers, pools (`reading` makes it)
    trace       the requests (`traces` makes it)
    serving     requests through queue and replicas, by an engine model (`engines`)
    run         the control plane over time: autoscalers, scheduler, Karpenter, lifecycles; decisions are `policy`'s
    bill        node segments, prices, attribution (`meter.bill`)
    result      all that came of it; `report`, `page` and `explain` show it

Knows neither `render` nor `lint`: it reads manifests, whoever made them.
"""
