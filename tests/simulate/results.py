"""A made-up `Result`, for whoever shows one: an hour of three models on spot and on-demand nodes.

    general   two replicas from the start; a rush at 0:15 makes them four
    code      none until 0:10, when its first request comes: a cold start with its node
    vision    one on demand, busy with nothing much

At 0:32 a spot node gets its notice and takes a replica with it; at 0:50 a node is consolidated away.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from stoker.simulate.result import (
    IN_FLIGHT,
    LOST,
    NO_REPLICA,
    SERVED,
    TIMED_OUT,
    TOO_LONG,
    Costs,
    Event,
    NodeLife,
    Outcomes,
    ReplicaLife,
    Result,
    Timeline,
)
from stoker.simulate.trace import Trace

HOUR = 3600.0
MODELS = ("general", "code", "vision")
NANO = 1_000_000_000

Floats = NDArray[np.float64]


def a_result(*, requests: int = 3000, hours: float = 1.0, seed: int = 7) -> Result:
    """Believable at a glance; nothing in it was simulated. Longer ones repeat the hour."""
    chance = np.random.default_rng(seed)
    trace = _trace(requests, hours * HOUR, chance)
    lives = [_replicas(hour * HOUR, hours * HOUR) for hour in range(int(np.ceil(hours)))]
    machines = [_nodes(hour * HOUR, hours * HOUR) for hour in range(int(np.ceil(hours)))]
    replicas = tuple(each for hour in lives for each in hour)
    nodes = tuple(each for hour in machines for each in hour)
    return Result(
        trace=trace,
        models=MODELS,
        outcomes=_outcomes(trace, replicas, chance),
        replicas=replicas,
        nodes=nodes,
        timeline=_timeline(trace, replicas, nodes, hours * HOUR),
        journal=tuple(event for hour in range(int(np.ceil(hours))) for event in _journal(hour * HOUR)),
        costs=_costs(nodes, hours * HOUR),
        began_at="2026-01-05T08:00:00Z",
        ended_at_s=hours * HOUR,
        seed=seed,
        notes=(
            "Job agentic-ai/fetch-weights: passed over, it serves no model",
            "image ghcr.io/acme/engine:1.2: size unknown, 8.0 GB taken for granted",
        ),
        assumptions={"boot_s": 42.0, "rates": {"general": "table: 8B on L4"}, "lease_s": 60.0},
        wall_s=1.25,
    )


def renamed(result: Result, name: str) -> Result:
    """Everything that manifests and traces can name is called `name`, one way or another."""
    models = tuple(f"{each}{name}" for each in result.models)
    by_model = dict(zip(result.models, models, strict=True))

    def of_models(columns: Mapping[str, NDArray[np.int32]]) -> dict[str, NDArray[np.int32]]:
        return {by_model[model]: column for model, column in columns.items()}

    timeline = replace(
        result.timeline,
        wanted=of_models(result.timeline.wanted),
        ready=of_models(result.timeline.ready),
        waiting=of_models(result.timeline.waiting),
        running=of_models(result.timeline.running),
        nodes={(pool + name, kind + name, capacity): n for (pool, kind, capacity), n in result.timeline.nodes.items()},
    )
    costs = result.costs
    return replace(
        result,
        models=models,
        timeline=timeline,
        trace=replace(result.trace, name=name, tenants=tuple(each + name for each in result.trace.tenants)),
        replicas=tuple(
            replace(each, name=each.name + name, model=by_model[each.model], workload=each.workload + name)
            for each in result.replicas
        ),
        nodes=tuple(
            replace(each, name=each.name + name, pool=each.pool + name, type=each.type + name, why=name)
            for each in result.nodes
        ),
        journal=tuple(
            replace(each, subject=each.subject + name, text=each.text + name, data={name: name})
            for each in result.journal
        ),
        costs=replace(
            costs,
            by_model={by_model.get(key, key): value for key, value in costs.by_model.items()},
            by_tenant={key + name: value for key, value in costs.by_tenant.items()},
            by_node_type={key + name: value for key, value in costs.by_node_type.items()},
        ),
        notes=(name,),
        assumptions={name: name},
    )


def _trace(requests: int, seconds: float, chance: np.random.Generator) -> Trace:
    """Arrivals with a rush in the second quarter of each hour."""
    at = np.sort(chance.uniform(0, seconds, requests))
    rush = (at % HOUR > 900) | (chance.random(requests) < 0.6)
    at = np.where(rush, at, np.minimum(at + 900, seconds - 1))
    order = np.argsort(at, kind="stable")
    model = np.select([chance.random(requests) < 0.15, (at > 600) & (chance.random(requests) < 0.3)], [2, 1], 0)
    prompt = np.maximum(8, chance.lognormal(6.3, 0.8, requests)).astype(np.int32)
    completion = np.maximum(1, chance.lognormal(4.9, 0.7, requests)).astype(np.int32)
    return Trace(
        name="made-up",
        at_s=at[order],
        prompt_tokens=prompt,
        completion_tokens=completion,
        cached_tokens=(prompt // 4).astype(np.int32),
        model=model[order].astype(np.int16),
        tenant=chance.integers(0, 3, requests).astype(np.int32),
        models=MODELS,
        tenants=("search", "support", "research"),
        notes=("tokens are estimates",),
    )


def _outcomes(trace: Trace, replicas: tuple[ReplicaLife, ...], chance: np.random.Generator) -> Outcomes:
    n, at, model = len(trace), trace.at_s, trace.model
    busy = np.exp(-(((at % HOUR) - 1100) ** 2) / 90_000)
    waited = chance.exponential(0.2, n) + busy * chance.exponential(25, n) * (model == 0)
    waited += np.where((model == 1) & (at % HOUR < 930), np.maximum(0, 930 - at % HOUR), 0)
    started = at + waited
    first = started + 0.15 + trace.prompt_tokens / 6000
    done = first + (trace.completion_tokens - 1) * (0.018 + 0.02 * busy)
    state = np.full(n, SERVED, np.int8)
    state[(at + 90 > trace.duration_s) & (done > trace.duration_s)] = IN_FLIGHT
    state[waited > 120] = TIMED_OUT
    state[11::997], state[13::1499], state[17::1999] = TOO_LONG, LOST, NO_REPLICA
    served = state == SERVED
    index = {name: [i for i, each in enumerate(replicas) if each.model == name] for name in MODELS}
    first_of = np.array([index[name][0] for name in MODELS])
    return Outcomes(
        state=state,
        model=model,
        started_at=np.where(served, started, np.nan),
        first_at=np.where(served, first, np.nan),
        done_at=np.where(served, done, np.nan),
        completion_tokens=np.where(served, np.minimum(trace.completion_tokens, 600), 0).astype(np.int32),
        cached_tokens=trace.cached_tokens,
        attempts=np.where(chance.random(n) < 0.002, 2, 1).astype(np.int16),
        replica=np.where(served, first_of[model], -1).astype(np.int32),
    )


def _replicas(start: float, end: float) -> list[ReplicaLife]:
    def life(name: str, model: str, node: str, times: list[float | None], why: str = "", gpus: int = 1) -> ReplicaLife:
        at = [None if each is None else start + each for each in times]
        hour = int(start // HOUR)
        assert at[0] is not None
        return ReplicaLife(
            name=f"model-{model}-{name}{hour or ''}",
            workload=f"Deployment agentic-ai/model-{model}",
            model=model,
            created_at=at[0],
            node=f"{node}{hour or ''}",
            bound_at=at[1],
            pulled_at=at[2],
            loaded_at=at[3],
            ready_at=at[4],
            leaving_at=at[5],
            gone_at=at[6],
            why_gone=why,
            requests=400,
            gpus=gpus,
        )

    whole = None if start + HOUR >= end else HOUR
    return [
        life("a1", "general", "node-1", [-900, -890, -700, -600, -500, whole, whole]),
        life("a2", "general", "node-2", [-900, -890, -700, -600, -500, 1920, 2040], "its node node-2 was taken by EC2"),
        life("v1", "vision", "node-3", [-900, -890, -700, -600, -500, whole, whole]),
        life("c1", "code", "node-4", [600, 668, 810, 862, 930, 2980, 2990], "no request for 5 minutes"),
        life("a3", "general", "node-5", [915, 981, 1121, 1168, 1240, 2975, 3005], "node-5 was consolidated"),
        life("a4", "general", "node-6", [930, 1011, 1155, 1203, 1275, whole, whole]),
        life("a5", "general", "node-6", [1925, 1926, 1926, 1970, 2041, whole, whole]),
        life(
            "c2",
            "code",
            "node-7",
            [3500, 3571, None, None, None, None, whole],
            "its model is at 0 again" if whole else "",
        ),
    ]


def _nodes(start: float, end: float) -> list[NodeLife]:
    def life(number: int, kind: str, zone: str, capacity: str, usd: float, times: list[float | None]) -> NodeLife:
        at = [None if each is None else start + each for each in times]
        hour = int(start // HOUR)
        assert at[0] is not None
        return NodeLife(
            name=f"node-{number}{hour or ''}",
            pool="gpu-spot" if capacity == "spot" else "gpu",
            type=kind,
            zone=zone,
            capacity=capacity,
            gpus=1,
            usd_per_hour=usd,
            asked_at=at[0],
            launched_at=at[1],
            registered_at=at[2],
            ready_at=at[3],
            leaving_at=at[4],
            gone_at=at[5],
            why=f"for pod model-{'vision' if number == 3 else 'code' if number in (4, 7) else 'general'}",
            why_gone="interrupted" if number == 2 else "consolidated" if number in (4, 5) else "",
        )

    whole = None if start + HOUR >= end else HOUR
    return [
        life(1, "g6.2xlarge", "us-east-1a", "on-demand", 0.9776, [-1000, -996, -950, -930, whole, whole]),
        life(2, "g6.2xlarge", "us-east-1b", "spot", 0.4012, [-1000, -996, -950, -930, 1920, 2040]),
        life(3, "g6e.xlarge", "us-east-1a", "on-demand", 1.861, [-1000, -996, -950, -930, whole, whole]),
        life(4, "g5.xlarge", "us-east-1c", "spot", 0.4389, [611, 615, 648, 667, 2990, 3050]),
        life(5, "g6.2xlarge", "us-east-1b", "spot", 0.4012, [926, 930, 962, 980, 2975, 3010]),
        life(6, "g6.12xlarge", "us-east-1a", "spot", 1.9034, [941, 946, 985, 1010, whole, whole]),
        life(7, "g5.xlarge", "us-east-1c", "on-demand", 1.006, [3511, 3515, 3550, 3570, whole, whole]),
    ]


def _timeline(trace: Trace, replicas: tuple[ReplicaLife, ...], nodes: tuple[NodeLife, ...], seconds: float) -> Timeline:
    at = np.arange(0.0, seconds + 1, 15.0)

    def count(spans: list[tuple[float | None, float | None]]) -> NDArray[np.int32]:
        found = np.zeros(len(at), np.int32)
        for begin, end in spans:
            if begin is not None:
                found += (at >= begin) & (at < (np.inf if end is None else end))
        return found

    hour = at % HOUR
    rush = np.exp(-((hour - 1100) ** 2) / 90_000)
    kinds = sorted({(each.pool, each.type, each.capacity) for each in nodes})
    return Timeline(
        at=at,
        wanted={m: count([(r.created_at, r.leaving_at) for r in replicas if r.model == m]) for m in MODELS},
        ready={m: count([(r.ready_at, r.leaving_at) for r in replicas if r.model == m]) for m in MODELS},
        waiting={
            "general": (60 * rush).astype(np.int32),
            "code": np.where((hour > 600) & (hour < 930), (hour - 600) / 12, 0).astype(np.int32),
            "vision": np.zeros(len(at), np.int32),
        },
        running={
            "general": (6 + 18 * rush).astype(np.int32),
            "code": np.where(hour > 930, 4, 0).astype(np.int32),
            "vision": np.full(len(at), 2, np.int32),
        },
        nodes={
            kind: count([(n.launched_at, n.gone_at) for n in nodes if (n.pool, n.type, n.capacity) == kind])
            for kind in kinds
        },
        usd_per_hour=sum(
            (n.usd_per_hour * count([(n.launched_at, n.gone_at)]) for n in nodes), start=np.zeros(len(at))
        ),
    )


def _costs(nodes: tuple[NodeLife, ...], seconds: float) -> Costs:
    """Each split sums to the total to the nano-dollar, as the real ones do."""
    by_node = {
        each.name: round(
            each.usd_per_hour
            * NANO
            * max(0.0, min(each.gone_at or seconds, seconds) - max(each.launched_at or 0.0, 0.0))
            / HOUR
        )
        for each in nodes
    }

    def by(key: str) -> dict[str, int]:
        found: dict[str, int] = {}
        for each in nodes:
            found[getattr(each, key)] = found.get(getattr(each, key), 0) + by_node[each.name]
        return found

    total = sum(by_node.values())

    def shared(shares: Mapping[str, float]) -> dict[str, int]:
        parts = {name: int(total * share) for name, share in shares.items()}
        last = list(parts)[-1]
        return {**parts, last: total - sum(value for name, value in parts.items() if name != last)}

    return Costs(
        total=total,
        by_node_type=by("type"),
        by_capacity=by("capacity"),
        by_model=shared({"general": 0.37, "code": 0.14, "vision": 0.29, "(start-up)": 0.04, "(idle)": 0.16}),
        by_tenant=shared({"search": 0.41, "support": 0.27, "research": 0.32}),
        by_pool=by("pool"),
        by_part=shared({"instances": 0.97, "volumes": 0.03}),
    )


def _journal(start: float) -> list[Event]:
    suffix = int(start // HOUR) or ""
    said = [
        (600, "scale", "code", "0 -> 1: waiting 1, activation 0", {"waiting": 1, "before": 0, "after": 1}),
        (600, "pod", f"model-code-c1{suffix}", "made", {}),
        (600, "unschedulable", f"model-code-c1{suffix}", "no node has room: nvidia.com/gpu 1", {}),
        (611, "provision", "gpu-spot", "1 node for 1 pod: cheapest of 6 types", {"types": 6, "pods": 1}),
        (615, "node", f"node-4{suffix}", "g5.xlarge spot in us-east-1c", {"usd_per_hour": 0.4389}),
        (667, "node", f"node-4{suffix}", "ready", {}),
        (668, "pod", f"model-code-c1{suffix}", f"bound to node-4{suffix}", {}),
        (915, "scale", "general", "2 -> 3: waiting 30 at 10 each", {"waiting": 30, "target": 10}),
        (930, "no capacity", "gpu-spot", "g6.2xlarge spot in us-east-1c: none to be had", {}),
        (930, "scale", "general", "3 -> 4: waiting 41 at 10 each", {"waiting": 41, "target": 10}),
        (930, "pod", f"model-code-c1{suffix}", "ready", {}),
        (1920, "interruption", f"node-2{suffix}", "spot notice: 120 s", {"zone": "us-east-1b"}),
        (2040, "lost", f"model-general-a2{suffix}", "2 requests were cut off", {"requests": 2}),
        (2975, "disrupt", f"node-5{suffix}", "empty: consolidated", {"saves_usd_per_hour": 0.4012}),
        (3010, "node", f"node-5{suffix}", "gone", {}),
        (3500, "scale", "code", "0 -> 1: waiting 2, activation 0", {"waiting": 2}),
    ]
    return [Event(start + at, kind, subject, text, data) for at, kind, subject, text, data in said]
