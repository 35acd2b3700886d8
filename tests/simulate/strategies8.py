"""Small clusters for `stoker simulate`, as manifests, with requests and options: whatever may come together in one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import worlds
from hypothesis import strategies as st

from stoker.simulate import node_groups
from stoker.simulate.scenario import Scenario
from stoker.simulate.trace import Trace

Object = dict[str, Any]
LASTS_S = 1200.0
MODELS = ("general", "code")
GPU_TYPES = ("g6.xlarge", "g6.2xlarge g5.xlarge", "g6.xlarge g6.12xlarge", "g6.2xlarge g6.12xlarge g5.12xlarge")
CPU_TYPES = ("m6i.large m6i.xlarge", "m6i.large m6i.xlarge m6i.2xlarge m6i.4xlarge")
FIXED = {f"{name}_spread": 0.0 for name in ("fleet", "boot", "devices", "pull", "load", "engine_start", "server_start")}
QUICK = {
    "boot_s": 20.0,
    "devices_s": 5.0,
    "engine_start_s": 10.0,
    **{f"{name}_bytes_per_s": 1e10 for name in ("registry", "unpack", "instance_store", "hub")},
}
"""So that much happens in twenty minutes."""


@dataclass(frozen=True, eq=False)
class Case:
    """`text` says all of it, for the message of a failing test."""

    scenario: Scenario
    trace: Trace
    options: dict[str, Any]
    text: str


@st.composite
def cases(draw: st.DrawFn, folder: Path) -> Case:
    names = draw(st.sampled_from([("general",), ("general",), MODELS]))
    objects = draw(pools())
    for name in names:
        objects += draw(models(name))
    if draw(st.booleans()):
        objects += draw(
            st.lists(platform, min_size=1, max_size=2, unique_by=lambda each: str(each["metadata"]["name"]))
        )
    if draw(st.integers(0, 3)) == 0:
        objects.append(daemon_set())
    scenario = worlds.scenario(*objects)
    groups = ()
    if draw(st.integers(0, 5)) == 0:
        groups = draw(st.sampled_from(GROUPS))
        scenario = node_groups.with_groups(scenario, [node_groups.parse(each, scenario) for each in groups])
    times = (
        draw(st.lists(st.floats(0, LASTS_S, allow_subnormal=False), max_size=60))
        if draw(st.booleans())
        else burst(draw)
    )
    prompt, answer = draw(st.sampled_from([(1, 1), (100, 50), (500, 400), (3000, 1500), (9000, 10)]))
    trace = worlds.trace(*sorted(times), prompt=prompt, answer=answer)
    options = draw(asked(folder))
    return Case(scenario, trace, options, f"{objects}\n{groups}\n{sorted(times)} {prompt} {answer}\n{options}")


GROUPS = (
    ("g6.xlarge,min=0,max=4,pool=gpu", "m6i.xlarge,min=0,max=3"),
    ("g6.12xlarge,min=1,max=2,spot,pool=gpu", "m6i.xlarge,min=1,max=1"),
    ("g6.2xlarge,min=2,max=2,pool=gpu", "m6i.2xlarge,min=0,max=4,spot"),
)


def burst(draw: st.DrawFn) -> list[float]:
    """Many at once, and then nothing: what scales up and down again."""
    at, many, apart = draw(st.integers(0, 300)), draw(st.integers(10, 60)), draw(st.sampled_from([0.0, 0.1, 2.0]))
    return [at + apart * i for i in range(many)]


# -- nodes --


@st.composite
def pools(draw: st.DrawFn) -> list[Object]:
    found = [draw(pool("gpu", GPU_TYPES))]
    if draw(st.integers(0, 2)) == 0:
        second = draw(pool("gpu", GPU_TYPES))
        second["metadata"]["name"] = "more"
        found.append(second)
    if draw(st.integers(0, 3)):
        found.append(draw(pool("cpu", CPU_TYPES)))
    return found


capacities = st.sampled_from(["on-demand", "spot", "spot on-demand", "spot on-demand"])
budgets = st.lists(
    st.one_of(
        st.fixed_dictionaries({"nodes": st.sampled_from(["0", "1", "2", "10%", "50%", "100%"])}),
        st.fixed_dictionaries(
            {"nodes": st.sampled_from(["0", "1"]), "schedule": st.just("5 0 * * *"), "duration": st.just("10m")}
        ),
        st.fixed_dictionaries(
            {
                "nodes": st.sampled_from(["0", "1", "100%"]),
                "reasons": st.sampled_from([["Empty"], ["Drifted", "Underutilized"]]),
            }
        ),
    ),
    min_size=1,
    max_size=2,
)
disruptions = st.fixed_dictionaries(
    {
        "consolidateAfter": st.sampled_from(["0s", "30s", "2m", "Never"]),
        "consolidationPolicy": st.sampled_from(["WhenEmpty", "WhenEmptyOrUnderutilized", "WhenEmptyOrUnderutilized"]),
    },
    optional={"budgets": budgets},
)


@st.composite
def pool(draw: st.DrawFn, name: str, types: tuple[str, ...]) -> Object:
    spec: Object = {"disruption": draw(disruptions)}
    if draw(st.integers(0, 2)) == 0:
        spec["limits"] = draw(st.sampled_from([{"cpu": "8"}, {"cpu": "60", "memory": "300Gi"}, {"nvidia.com/gpu": 3}]))
    if draw(st.integers(0, 2)) == 0:
        spec["expireAfter"] = draw(st.sampled_from(["10m", "20m", "40m"]))
    if draw(st.integers(0, 2)) == 0:
        spec["terminationGracePeriod"] = draw(st.sampled_from(["30s", "3m"]))
    if draw(st.booleans()):
        spec["weight"] = draw(st.sampled_from([1, 10, 50]))
    if name == "cpu" and draw(st.integers(0, 6)) == 0:
        spec["replicas"] = draw(st.integers(0, 2))
        spec.pop("weight", None)
        spec.pop("limits", None)
    made = worlds.pool(name, types=draw(st.sampled_from(types)), capacity=draw(capacities), **spec)
    made["spec"]["template"]["metadata"]["labels"]["pool"] = name
    return made


# -- pods --


@st.composite
def models(draw: st.DrawFn, name: str) -> list[Object]:
    most = draw(st.integers(1, 5))
    replicas = draw(st.one_of(st.none(), st.integers(0, most)))
    rest: Object = {}
    labels = {"matchLabels": {"app": name}}
    if draw(st.integers(0, 3)) == 0:
        key = draw(st.sampled_from(["topology.kubernetes.io/zone", "kubernetes.io/hostname"]))
        unless = draw(st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]))
        constraint = {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": unless, "labelSelector": labels}
        rest["topologySpreadConstraints"] = [constraint]
    found = [worlds.model(name, replicas=replicas, grace=draw(st.sampled_from([1, 30, 120])), **rest)]
    if draw(st.integers(0, 9)) == 0:
        notes = {"karpenter.sh/do-not-disrupt": "true"}
        found[0]["spec"]["template"]["metadata"]["annotations"] = notes
    if draw(st.booleans()):
        found.append(draw(scalers(name, most)))
    elif draw(st.integers(0, 3)) == 0:
        found.append(draw(autoscalers(name, most)))
    if draw(st.integers(0, 2)) == 0:
        found.append(worlds.budget(name, **draw(st.sampled_from(PDBS))))
    return found


PDBS: tuple[Object, ...] = (
    {"maxUnavailable": 1},
    {"minAvailable": 1},
    {"maxUnavailable": "50%"},
    {"maxUnavailable": 0},
)


@st.composite
def scalers(draw: st.DrawFn, name: str, most: int) -> Object:
    spec: Object = {"minReplicaCount": draw(st.integers(0, most)), "maxReplicaCount": most}
    if draw(st.booleans()):
        spec["pollingInterval"] = draw(st.sampled_from([1, 7, 30]))
        spec["cooldownPeriod"] = draw(st.sampled_from([0, 60, 300]))
    if draw(st.booleans()):
        behavior = {"scaleDown": {"stabilizationWindowSeconds": draw(st.sampled_from([0, 60]))}}
        spec["advanced"] = {"horizontalPodAutoscalerConfig": {"behavior": behavior}}
    return worlds.scaler(name, **spec)


@st.composite
def autoscalers(draw: st.DrawFn, name: str, most: int) -> Object:
    """By processors: nothing that the simulator knows of, or knows as the share of time that it computes."""
    target = {"type": "Utilization", "averageUtilization": draw(st.sampled_from([30, 80]))}
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name},
            "minReplicas": draw(st.integers(1, most)),
            "maxReplicas": most,
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}],
        },
    }


@st.composite
def platforms(draw: st.DrawFn) -> Object:
    """Pods that serve no model."""
    name = draw(st.sampled_from(["gateway", "redis"]))
    requests = draw(
        st.sampled_from([{"cpu": "250m"}, {"cpu": "1500m", "memory": "3Gi"}, {"cpu": "3", "memory": "2Gi"}])
    )
    labels = {"app": name}
    spec: Object = {
        "nodeSelector": {"pool": "cpu"},
        "containers": [{"name": "it", "image": f"{name}:1.0", "resources": {"requests": requests}}],
    }
    if draw(st.booleans()):
        term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": labels}}
        spec["affinity"] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "ai"},
        "spec": {
            "replicas": draw(st.integers(0, 4)),
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": spec},
        },
    }


platform = platforms()


def daemon_set() -> Object:
    labels = {"app": "agent"}
    container = {"name": "it", "image": "agent:1.0", "resources": {"requests": {"cpu": "200m", "memory": "256Mi"}}}
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": "agent", "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {"tolerations": [{"operator": "Exists"}], "containers": [container]},
            },
        },
    }


# -- what a person asks --


@st.composite
def asked(draw: st.DrawFn, folder: Path) -> Object:
    found: Object = {
        "seed": draw(st.integers(0, 99)),
        "warm_up_s": 900.0,
        "priors": draw(st.sampled_from([QUICK, {**QUICK, **FIXED}])),
        "interruptions_per_hour": draw(st.sampled_from([0.0, 0.0, 4.0, 30.0])),
        "after_s": 600.0,
    }
    rest: dict[str, st.SearchStrategy[Any]] = {
        "cold": st.just(True),
        "hours": st.sampled_from([0.1, 0.25, 0.5]),
        "no_capacity": st.sampled_from([0.3, 0.9, 1.0]),
        "spot_to_spot": st.just(True),
        "retries": st.booleans(),
        "drift_at": st.sampled_from([-100.0, 0.0, 300.0]),
        "timeout_s": st.sampled_from([5.0, 300.0]),
        "available": st.just(((0.0, 2), (200.0, 0), (400.0, 3), (700.0, 1))),
        "prices": st.just(price_file(folder)),
    }
    for name, values in rest.items():
        if draw(st.integers(0, 4)) == 0:
            found[name] = draw(values)
    return found


PRICES = """type,zone,capacity,usd_per_hour,at_s
g6.xlarge,us-east-1a,spot,0.3,0
g6.xlarge,us-east-1a,spot,2.5,300
g6.xlarge,us-east-1a,spot,0.1,613.5
m6i.xlarge,us-east-1b,on-demand,0.05,450
"""


def price_file(folder: Path) -> str:
    path = folder / "prices.csv"
    if not path.exists():
        path.write_text(PRICES)
    return str(path)
