"""Whatever a platform.yaml may say of the cluster, as plain data. What nothing could be made of is seldom among it."""

from typing import Any

from hypothesis import strategies as st

Tree = dict[str, Any]
modes = st.sampled_from(["karpenter", "auto", "hybrid"])
seeds = st.integers(0, 2**16)
ACCOUNT = "111122223333"
_ARN = "arn:aws:acm:us-west-2:111122223333:certificate/11111111-2222-3333-4444-555555555555"
_WAF = "arn:aws:wafv2:us-west-2:111122223333:regional/webacl/edge/11111111-2222-3333-4444-555555555555"
_FILES = "fs-0123456789abcdef0"
_RESERVATION = "cr-0123456789abcdef0"
_flag = st.booleans()

names = st.sampled_from(
    [
        *(
            "general",
            "code",
            "vision",
            "chat",
            "a",
            "gateway",
            "redis",
            "models",
            "training",
            "worker",
            "ledger",
            "gpu",
        ),
        *("m" * 40, "model-general", "a-very-long-name-of-a-model-that-goes-on-x", "l1-2-3", "engine", "platform"),
    ]
).map(lambda name: name[:40].rstrip("-"))


def some(**keys: st.SearchStrategy[Any]) -> st.SearchStrategy[Tree]:
    """Any of the keys."""
    return st.fixed_dictionaries({}, optional=keys)


@st.composite
def clusters(draw: st.DrawFn) -> Tree:
    region = draw(st.sampled_from(["us-west-2", "us-east-1", "eu-central-1", "us-gov-west-1", "ap-southeast-2"]))
    found = draw(
        some(
            name=st.sampled_from(["prod", "Prod_Cluster", "c" * 100, "a-b-c"]),
            account=st.just(ACCOUNT),
            mode=modes,
            namespace=st.sampled_from(["ai", "n" * 40, "agentic-ai-prod"]),
            zones=st.sampled_from([["a"], ["a", "b"], ["c", "b", "a"]]).map(lambda z: [region + each for each in z]),
        )
    )
    return {"region": region, **found}


observability = some(
    enabled=st.sampled_from([True, True, True, False]),
    cloudwatch=_flag,
    prometheus=_flag,
    grafana=_flag,
    alarmEmail=st.just("oncall@example.com"),
    prometheusUrl=st.sampled_from(["http://prom.metrics:9090", "https://prom.example.com/x"]),
    otlp=st.sampled_from(
        [
            {"endpoint": "http://collector.watch:4318"},
            {"endpoint": "https://otlp.example.com/x", "headersFromSecret": True, "engines": True},
        ]
    ),
)
images = some(registry=st.just("registry.example.com/team/ai"), tag=st.sampled_from(["1.2.3", "main_7"]))
tags = st.dictionaries(
    st.sampled_from(["Team", "cost center", "a:b"]), st.sampled_from(["ml", "x y", "1/2"]), max_size=2
)


def inference_pools(region: str) -> st.SearchStrategy[Tree]:
    return some(
        spotEnabled=_flag,
        consolidationEnabled=_flag,
        maxUsdPerHourPerNode=st.sampled_from([35, 60]),
        maxUsdPerHour=st.sampled_from([4000, 100_000]),
        volume=st.sampled_from(["150Gi", "300Gi", "1Ti"]),
        capacityReservation=st.just(_RESERVATION),
        zones=st.just([f"{region}b"]),
    )


families = st.sampled_from(
    [["g5", "g6", "g6e", "p4d", "p5"], ["g6", "g6e", "p4d"], ["g5", "p4d", "p4de"], ["p5", "g6e", "g5", "p4d", "g4dn"]]
)


@st.composite
def karpenters(draw: st.DrawFn, region: str) -> Tree:
    found = draw(
        some(
            enabled=st.sampled_from([True, True, True, False]),
            nodeRole=st.just("Nodes"),
            image=st.sampled_from(["al2023@v20260903", "bottlerocket@v1.55.0"]),
            interruptionQueue=st.just("spot-news"),
            protectedHours=st.sampled_from([None, {"nodes": "1"}, {"schedule": "0 22 * * *", "duration": "1h30m"}]),
        )
    )
    pools: Tree = {}
    for name in draw(st.lists(st.sampled_from(["gpu", "big", "g" * 40]), min_size=1, max_size=2, unique=True)):
        pools[name] = {"instanceFamilies": draw(families), **draw(inference_pools(region))}
    if draw(_flag):
        own = some(spotEnabled=_flag, consolidationEnabled=_flag, maxUsdPerHour=st.sampled_from([10, 100]))
        pools["cpu"] = {
            "use": "general",
            "instanceFamilies": draw(st.sampled_from([["m7i"], ["m6i", "c6i", "r7a"]])),
            **draw(own),
        }
    if draw(_flag):
        own = some(
            spotEnabled=_flag,
            placementGroup=st.just("near"),
            capacityReservation=st.just(_RESERVATION),
            volume=st.just("1Ti"),
        )
        pools["train"] = {
            "use": "training",
            "instanceFamilies": draw(st.sampled_from([["p4d", "p5"], ["p5"]])),
            **draw(own),
        }
    return {**found, "nodePools": pools}


@st.composite
def gpus(draw: st.DrawFn) -> Tree:
    sharing = draw(st.sampled_from(["none", "none", "none", "none", "time-slicing", "mps", "mig"]))
    if sharing == "mig":
        profile, memory = draw(st.sampled_from([("1g.5gb", "5Gi"), ("3g.20gb", "20Gi"), ("2g.10gb", "8Gi")]))
        return {"count": 1, "sharing": sharing, "migProfile": profile, "memory": memory}
    if sharing != "none":
        return {
            "count": 1,
            "sharing": sharing,
            "share": draw(st.sampled_from([2, 3, 4])),
            "memory": draw(st.sampled_from(["4Gi", "6Gi"])),
        }
    count = draw(st.sampled_from([0, 1, 1, 1, 2, 4, 8]))
    return {"count": count, "memory": draw(st.sampled_from([f"{max(count, 1) * each}Gi" for each in (8, 16, 24)]))}


@st.composite
def servings(draw: st.DrawFn, pools: list[str]) -> Tree:
    found = draw(
        some(
            weights=st.sampled_from(["Qwen/Qwen3-8B", "s3://weights-of-us/some/model", "mistralai/Mistral-7B-v0.3"]),
            image=st.sampled_from(["vllm/vllm-openai:v0.11.2", "registry.example.com/vllm:1@sha256:" + "ab" * 32]),
            cpu=st.sampled_from(["1", "1500m", "3"]),
            memory=st.sampled_from(["4Gi", "6000Mi", "12Gi"]),
            nodePool=st.sampled_from(pools),
            args=st.sampled_from([[], ["--quantization=fp8"], ["--max-num-seqs", "64", "--served-model-name=x y"]]),
        )
    )
    if draw(_flag):
        found["gpu"] = draw(gpus())
    gpu = found.get("gpu", {"count": 1})
    if gpu["count"] > 0 and gpu.get("sharing", "none") == "none" and draw(st.sampled_from([False, False, True])):
        found["nodes"] = 2
    return found


@st.composite
def models(draw: st.DrawFn, pools: list[str]) -> Tree:
    kind = draw(st.sampled_from(["embedded", "embedded", "embedded", "server", "keyed"]))
    found: Tree = {}
    if kind == "embedded":
        found["serving"] = draw(servings(pools))
    else:
        found["engine"] = {
            "url": draw(st.sampled_from(["https://llm.example.com/v1", "http://vllm.other.svc:8000/v1"]))
        }
        if kind == "keyed":
            found["engine"]["apiKeyEnv"] = draw(st.sampled_from(["OTHER_KEY", "THIRD_KEY"]))
    if draw(_flag):
        least, most = draw(st.sampled_from([(0, 1), (0, 3), (1, 1), (1, 2), (2, 5), (3, 3)]))
        found["replicas"] = {"min": least, "max": most}
    found |= draw(some(limits=st.sampled_from([{"concurrency": 4}, {"contextTokens": 4096, "timeoutSeconds": 600}])))
    return found


caches = st.sampled_from(
    [
        {},
        {"kind": "node", "size": "40Gi"},
        {"kind": "s3", "bucket": "weights-of-us"},
        {"bucket": "weights-of-us"},
        {"kind": "efs", "fileSystem": _FILES},
        {"kind": "fsx", "fileSystem": _FILES, "size": "2400Gi"},
    ]
)
autoscaling = st.sampled_from(
    [{}, {"enabled": False}, {"minReplicas": 0, "maxReplicas": 4}, {"minReplicas": 2, "maxReplicas": 10}]
)


@st.composite
def llms(draw: st.DrawFn, pools: list[str]) -> Tree:
    chosen = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    usual = some(
        enabled=st.sampled_from([True, True, True, True, False]),
        replicas=st.sampled_from([0, 1, 3]),
        gpu=gpus(),
        cpu=st.sampled_from(["2", "1"]),
        memory=st.sampled_from(["10Gi", "8Gi"]),
        cache=caches,
        autoscaling=autoscaling,
    )
    return {"models": {name: draw(models(pools)) for name in chosen}, "inference": draw(usual)}


behavior = st.sampled_from(
    [
        {"scaleUp": {"stabilizationWindowSeconds": 30, "selectPolicy": "Min"}},
        {
            "scaleDown": {
                "policies": [{"type": "Percent", "value": 10, "periodSeconds": 60}],
                "selectPolicy": "Disabled",
            }
        },
        {"scaleDown": {"tolerance": 0.2}, "scaleUp": {"tolerance": 0.05}},
    ]
)
kedas = some(
    enabled=st.sampled_from([True, True, True, False]),
    scalers=some(redis=st.sampled_from([True, True, True, False]), sqs=_flag, cloudwatch=_flag),
    sqsQueue=st.just("llm-tasks"),
    minReplicaCount=st.sampled_from([0, 1, 2]),
    maxReplicaCount=st.sampled_from([2, 6]),
    pollingInterval=st.sampled_from([5, 30]),
    cooldownPeriod=st.sampled_from([0, 120]),
    initialCooldownPeriod=st.sampled_from([0, 60]),
    lagCount=st.sampled_from([1, 2.5, 40]),
    activationLagCount=st.sampled_from([0, 3]),
    pendingEntriesCount=st.sampled_from([2, 6]),
    runningCount=st.sampled_from([0.5, 12]),
    fallback=st.sampled_from([{"replicas": 1}, {"replicas": 3, "behavior": "currentReplicasIfHigher"}]),
    advanced=st.builds(lambda each: {"horizontalPodAutoscalerConfig": {"behavior": each}}, behavior),
)
redis = st.sampled_from(
    [
        {},
        {"architecture": "standalone"},
        {"replica": {"replicaCount": 0}},
        {"replica": {"replicaCount": 3}, "master": {"persistence": {"size": "20Gi"}}},
        {"url": "rediss://redis.example.com:6380/0", "passwordEnv": "REDIS_PW"},
        {"url": "redis://10.0.0.7:6379/1", "enabled": False},
        {"elasticache": {"enabled": True}},
        {"elasticache": {"enabled": True, "nodeType": "cache.m7g.xlarge"}, "architecture": "standalone"},
    ]
)
ledgers = st.sampled_from(
    [
        {},
        {},
        {"url": "postgresql://stoker@db.example.com:5433/ledger", "passwordEnv": "DB_PW"},
        {"url": "postgresql://stoker@db.example.com/ledger"},
    ]
)
edges = some(
    enabled=st.sampled_from([True, True, True, False]),
    host=st.sampled_from(["api.example.com", "a-b.c-d.example.org"]),
    scheme=st.just("internal"),
    certificateArn=st.just(_ARN),
    wafAclArn=st.just(_WAF),
    accessLogsBucket=st.just("logs-of-edge"),
    websocket=_flag,
    gatewayApi=st.sampled_from([{"enabled": True}, {"enabled": True, "className": "istio"}, {"enabled": False}]),
)


@st.composite
def trainings(draw: st.DrawFn) -> Tree:
    nodes = draw(st.sampled_from([1, 2, 4]))
    found = draw(
        some(
            kubeflow=_flag,
            checkpointing=st.just({"s3Bucket": "checkpoints-of-us"}),
            image=st.just("registry.example.com/trainer:2.0"),
            gpus=st.sampled_from([1, 4, 8]),
            efa=_flag,
            data=st.just("s3://data-of-us/some/train.jsonl"),
            legacyPytorchJob=_flag,
            storage=st.just({"enabled": True, "fileSystem": _FILES, "mountName": "abcde123", "size": "2400Gi"}),
            pipeline=st.sampled_from([{"enabled": False}, {"leastScore": 0.5}, {"exam": "s3://exams-of-us/a.jsonl"}]),
        )
    )
    enabled = draw(_flag)
    batch = {"enabled": enabled and draw(_flag), "spot": nodes == 1 and draw(_flag)}
    if "storage" in found and found.get("kubeflow", True) and not batch["enabled"] and draw(_flag):
        found["data"] = "/fsx/some/train.jsonl"
    return {"enabled": enabled, "nodes": nodes, "batch": batch, **found}


compositions = some(
    ack=some(enabled=st.sampled_from([True, True, False]), rds=_flag, sagemaker=_flag),
    kro=_flag,
    argocd=some(
        enabled=_flag,
        repository=st.just("ssh://git@git.example.com/ai/platform.git"),
        revision=st.just("release/1"),
        path=st.just("deploy/prod"),
        clusters=st.sampled_from([[], ["east"], ["east", "west-2"]]),
    ),
    canary=_flag,
)


agents = some(
    enabled=st.sampled_from([None, True, True, False]),
    definitions=st.sampled_from([{"mine": {}}, {"mine": {"tools": ["web"]}, "yours": {"budgets": {"usdPerDay": 5}}}]),
    tools=st.just(
        {
            "web": {"fetch": {"hosts": ["example.com:8443"], "headers": {"X-Key": "WEB_KEY"}, "allowHttp": True}},
            "tickets": {"mcp": {"url": "http://mcp.other.svc:9000/mcp", "headers": {"X-Key": "TICKETS_KEY"}}},
        }
    ),
    workers=some(
        replicas=st.sampled_from([{"min": 0, "max": 1}, {"min": 1, "max": 1}, {"min": 2, "max": 9}]),
        stepsAtOnce=st.sampled_from([1, 50]),
    ),
    store=st.sampled_from(
        [{}, {"url": "postgresql://agents@db.example.com/agents", "passwordEnv": "PW"}, {"url": "postgresql://a@b.c/d"}]
    ),
)


@st.composite
def platforms(draw: st.DrawFn) -> Tree:
    """A valid spec, with each section there or not."""
    cluster = draw(clusters())
    parts = draw(some(observability=observability, images=images, tags=tags))
    found: Tree = {"global": {"cluster": cluster, **parts}}
    pools = ["gpu"]
    if draw(_flag):
        found["karpenter"] = draw(karpenters(cluster["region"]))
        pools = [name for name, pool in found["karpenter"]["nodePools"].items() if pool.get("use") is None]
    if draw(st.sampled_from([True, True, False])):
        found["llm"] = draw(llms(pools))
    found |= draw(
        some(keda=kedas, redis=redis, ledger=ledgers, edge=edges, training=trainings(), composition=compositions)
    )
    if draw(_flag):
        found["agents"] = draw(agents)
        if "tools" in found["agents"].get("definitions", {}).get("mine", {}):
            found["agents"].setdefault("tools", {"web": {"fetch": {"hosts": ["example.com"]}}})
    if "account" in cluster and draw(_flag):
        found.setdefault("composition", {}).setdefault("argocd", {})["capability"] = True
    return _without_contradictions(found)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Tree, Any]:
    """A spec and the mode that it is rendered in. Auto Mode's device plugin cannot be told to share GPUs."""
    mode, spec = draw(modes), draw(platforms())
    if mode == "auto":
        for tree in (spec.get("llm", {}).get("inference", {}), *_servings(spec)):
            tree.get("gpu", {}).pop("sharing", None)
    return spec, mode


def _servings(spec: Tree) -> list[Tree]:
    return [model.get("serving", {}) for model in spec.get("llm", {}).get("models", {}).values()]


def _without_contradictions(spec: Tree) -> Tree:
    """What the spec itself refuses is taken out (no replicas at all), and what nothing works without is put in."""
    inference = spec.get("llm", {}).get("inference", {})
    if inference.get("autoscaling", {}).get("enabled") is False and inference.get("replicas") == 0:
        del inference["replicas"]
    for serving in _servings(spec):
        if serving.get("gpu", inference.get("gpu", {})).get("count") == 0:
            serving.pop("nodes", None)
    training = spec.get("training", {})
    if training.get("enabled") and "account" not in spec["global"]["cluster"]:
        training.setdefault("checkpointing", {"s3Bucket": "checkpoints-of-us"})
    if "account" not in spec["global"]["cluster"]:
        spec.get("composition", {}).get("ack", {}).pop("sagemaker", None)
    return spec
