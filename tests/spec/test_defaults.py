"""The defaults are promises: changing one is a decision that shows in this file."""

import itertools
from decimal import Decimal
from pathlib import Path

import pytest

from stoker.spec import Budgets, Platform, Prices, Replicas, Team, Tenant, dump, load, loads, template

DEFAULTS = """\
global:
  cluster:
    name: agentic-ai-cluster
    region: us-west-2
    account: null
    mode: karpenter
    zones: []
    namespace: agentic-ai
  images:
    registry: null
    tag: null
  tags: {}
  observability:
    enabled: true
    cloudwatch: false
    cloudwatchTenants: []
    prometheus: true
    prometheusUrl: http://prometheus-operated.monitoring.svc:9090
    grafana: true
    alarmEmail: null
    otlp:
      endpoint: null
      headersFromSecret: false
      engines: false
karpenter:
  enabled: true
  nodeRole: null
  image: al2023@v20260903
  interruptionQueue: null
  protectedHours:
    schedule: 0 9 * * mon-fri
    duration: 8h
    nodes: 10%
  nodePools:
    gpu:
      enabled: true
      instanceFamilies:
      - g5
      - g6
      - p4d
      - p5
      spotEnabled: true
      consolidationEnabled: true
      use: inference
      maxUsdPerHourPerNode: null
      maxUsdPerHour: null
      zones: []
      volume: 200Gi
      capacityReservation: null
      placementGroup: null
keda:
  enabled: true
  scalers:
    redis: true
    sqs: false
    cloudwatch: false
  sqsQueue: null
  minReplicaCount: null
  maxReplicaCount: null
  pollingInterval: 10
  cooldownPeriod: 300
  initialCooldownPeriod: 0
  lagCount: null
  activationLagCount: 0
  pendingEntriesCount: null
  runningCount: null
  fallback: null
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleUp:
          stabilizationWindowSeconds: 0
          policies:
          - type: Pods
            value: 4
            periodSeconds: 15
          - type: Percent
            value: 100
            periodSeconds: 15
          selectPolicy: Max
          tolerance: 0.1
        scaleDown:
          stabilizationWindowSeconds: 300
          policies:
          - type: Percent
            value: 100
            periodSeconds: 15
          selectPolicy: Max
          tolerance: 0.1
llm:
  models:
    general:
      task: general
      engine: embedded
      weights: null
      aliases: []
      replicas: null
      serving:
        weights: null
        image: null
        gpu: null
        cpu: null
        memory: null
        limits: null
        nodes: 1
        nodePool: null
        args: []
      limits:
        contextTokens: 2048
        maxOutputTokens: 512
        promptOverheadTokens: null
        imageTokens: null
        concurrency: 8
        timeoutSeconds: 120
      prices:
        inputUsdPerMillionTokens: 0.1
        cachedInputUsdPerMillionTokens: 0.05
        outputUsdPerMillionTokens: 0.4
      fallback: null
    code:
      task: code
      engine: embedded
      weights: null
      aliases: []
      replicas: null
      serving:
        weights: null
        image: null
        gpu: null
        cpu: null
        memory: null
        limits: null
        nodes: 1
        nodePool: null
        args: []
      limits:
        contextTokens: 2048
        maxOutputTokens: 512
        promptOverheadTokens: null
        imageTokens: null
        concurrency: 8
        timeoutSeconds: 120
      prices:
        inputUsdPerMillionTokens: 0.1
        cachedInputUsdPerMillionTokens: 0.05
        outputUsdPerMillionTokens: 0.4
      fallback: null
    vision:
      task: vision
      engine: embedded
      weights: null
      aliases: []
      replicas: null
      serving:
        weights: null
        image: null
        gpu: null
        cpu: null
        memory: null
        limits: null
        nodes: 1
        nodePool: null
        args: []
      limits:
        contextTokens: 2048
        maxOutputTokens: 512
        promptOverheadTokens: null
        imageTokens: null
        concurrency: 8
        timeoutSeconds: 120
      prices:
        inputUsdPerMillionTokens: 0.1
        cachedInputUsdPerMillionTokens: 0.05
        outputUsdPerMillionTokens: 0.4
      fallback: null
  inference:
    enabled: true
    replicas: 3
    image: vllm/vllm-openai:v0.11.2
    gpu:
      count: 1
      memory: 24Gi
      sharing: none
      share: 2
      migProfile: 3g.40gb
    cpu: "2"
    memory: 10Gi
    cache:
      kind: auto
      bucket: null
      fileSystem: null
      mountName: fsx
      size: 100Gi
    autoscaling:
      enabled: true
      minReplicas: 1
      maxReplicas: 50
gateway:
  host: 127.0.0.1
  port: 8080
  routes:
    general: general
    code: code
    vision: vision
  defaultModel: general
  auto:
    tools: null
    long: null
    longCharacters: 24000
    hard: null
  weights: {}
  maxBodyBytes: 16777216
  maxWaiting:
    perTenant: 10000
    perModel: 100000
  allowImageUrls: false
  timeouts:
    connectSeconds: 2
    firstTokenSeconds: 60
    betweenTokensSeconds: null
    totalSeconds: 300
  files:
    maxFileBytes: 209715200
    maxTenantBytes: 1073741824
  batches:
    maxLines: 50000
    linesAtOnce: 100
    perTenant: 20
  sessions:
    idleSeconds: 300
redis:
  enabled: true
  url: null
  passwordEnv: null
  architecture: replication
  master:
    persistence:
      size: 8Gi
  replica:
    replicaCount: 2
  elasticache:
    enabled: false
    nodeType: cache.r7g.large
queue:
  leaseSeconds: 15
  maxAttempts: 3
  retryBaseSeconds: 1
  retryCapSeconds: 60
  resultTtlSeconds: 86400
  maxBodyBytes: 1048576
  deadLetters:
    sqsQueue: stoker-dead-letters
spot:
  watch: auto
  pollSeconds: 5
  reserveSeconds: 10
  onRebalance: ignore
ledger:
  url: null
  passwordEnv: null
  retentionDays: null
  auditDays: 400
costs:
  machine:
    instanceType: null
    usdPerHour: null
  alerts:
    thresholds:
    - 0.5
    - 0.8
    - 1
    webhook: null
    sns: null
tenants:
  default: {}
agents:
  enabled: null
  definitions:
    assistant:
      description: Answers questions, with a calculator.
      graph: null
      model: auto
      route: null
      instructions: You answer questions. Use the calculator for arithmetic.
      maxOutputTokens: null
      temperature: null
      tools:
      - calculator
      grants: []
      grantable: []
      limits:
        usd: null
        tokens: 1000000
        steps: 50
        wallSeconds: 3600
        toolCalls: 100
        depth: 2
        repeats: 3
      budgets: {}
      memoryMessages: 200
  tools:
    calculator:
      calculator: true
      fetch: null
      search: null
      workspace: null
      python: null
      mcp: null
      agent: null
      description: ""
      effect: null
      repeatable: null
      approval: null
      trusted: null
      timeoutSeconds: 30
  workers:
    replicas:
      min: 0
      max: 2
    stepsAtOnce: 64
    leaseSeconds: null
  store:
    url: null
    passwordEnv: null
  retentionDays: 90
training:
  enabled: false
  kubeflow: true
  checkpointing:
    s3Bucket: null
  image: null
  nodes: 2
  gpus: 8
  efa: true
  data: null
  legacyPytorchJob: false
  storage:
    enabled: false
    fileSystem: null
    mountName: fsx
    size: 1200Gi
  batch:
    enabled: false
    spot: false
  pipeline:
    enabled: true
    leastScore: 0.8
    exam: null
edge:
  enabled: true
  host: null
  scheme: internal
  certificateArn: null
  wafAclArn: null
  accessLogsBucket: null
  websocket: false
  gatewayApi:
    enabled: false
    className: agentgateway
composition:
  ack:
    enabled: true
    rds: false
    sagemaker: false
  kro: false
  argocd:
    enabled: false
    capability: false
    repository: https://github.com/example/platform
    revision: main
    path: manifests
    clusters: []
  canary: false
deploy:
  context: null
  terraform: true
  controllers: true
  kubernetesVersion: "1.35"
  stateBucket: null
  monthlyBudgetUsd: null
  waitSeconds: 1800
  network:
    cidr: 10.0.0.0/16
    natPerZone: false
    publicAccess: []
"""


def test_the_defaults() -> None:
    assert dump(Platform()) == DEFAULTS


def test_no_file_an_empty_file_and_empty_sections_mean_the_defaults(tmp_path: Path) -> None:
    empty = tmp_path / "platform.yaml"
    empty.write_text("")
    assert load(None) == load(empty) == Platform()
    assert loads("llm:\nkarpenter:\ngateway:\n  routes:\n  timeouts:\n") == Platform()
    assert loads("llm:\n  models:\n    general:\n    code:\n    vision:\n      prices:\n      aliases:\n") == Platform()


def test_the_file_of_init_loads_equal_to_the_defaults() -> None:
    assert loads(template()) == Platform()


def test_the_file_of_init_says_of_each_key_what_it_is() -> None:
    """Each key has a comment right above it, except names that the reader chooses and the short second models."""
    lines = template().splitlines()
    bare = [
        line.strip()
        for before, line in itertools.pairwise(lines)
        if line.strip() and not line.strip().startswith("#") and not before.strip().startswith("#")
    ]
    chosen = ["general:", "code:", "task: code", "vision:", "task: vision", "general: general", "code: code"]
    assert bare == [*chosen, "vision: vision", "default:", "gpu:"]
    assert max(map(len, lines)) <= 120


def test_the_guides_values_load_as_they_stand() -> None:
    platform = load(Path(__file__).parents[2] / "examples" / "guide-values.yaml")
    assert platform.global_.cluster.name == "agentic-ai-cluster"
    assert platform.global_.observability.cloudwatch is True
    assert platform.karpenter.node_pools["gpu"].instance_families == ("g5", "g6", "p4d", "p5")
    assert platform.keda.scalers.sqs is True
    assert (platform.llm.inference.replicas, platform.llm.inference.autoscaling.max_replicas) == (3, 50)
    assert platform.llm.inference.gpu.memory == "24Gi"
    assert platform.redis.replica.replica_count == 2
    assert platform.training.checkpointing.s3_bucket == "agentic-ai-checkpoints"
    assert platform.cluster_replicas("general") == Replicas(min=1, max=50)
    assert platform.local_replicas("general") == Replicas(min=1, max=1)


def test_the_small_example_loads_and_keeps_what_it_says() -> None:
    platform = load(Path(__file__).parents[2] / "examples" / "platform.yaml")
    assert loads(dump(platform)) == platform
    assert list(platform.llm.models) == ["general", "code"]


def test_replicas_that_a_model_names_count_here_and_in_the_cluster() -> None:
    platform = loads("llm: {models: {general: {replicas: {min: 0, max: 4}}}}")
    assert platform.local_replicas("general") == platform.cluster_replicas("general") == Replicas(min=0, max=4)


def test_without_autoscaling_a_cluster_keeps_the_replicas_of_the_guide() -> None:
    platform = loads("llm: {inference: {replicas: 5, autoscaling: {enabled: false}}}")
    assert platform.cluster_replicas("code") == Replicas(min=5, max=5)


def test_a_models_name_decides_its_task_unless_the_task_is_written() -> None:
    platform = loads("llm: {models: {code: , vision: {task: general}, mine: , eye: {task: vision}}}")
    tasks = {name: model.task for name, model in platform.llm.models.items()}
    assert tasks == {"code": "code", "vision": "general", "mine": "general", "eye": "vision"}


def test_on_and_off_are_yamls_true_and_false_also_where_auto_is_a_word() -> None:
    watches = {word: loads(f"spot: {{watch: {word}}}") for word in ("on", "off", "auto")}
    assert {word: platform.spot.watch for word, platform in watches.items()} == {
        "on": True,
        "off": False,
        "auto": "auto",
    }
    assert [loads(dump(platform)) for platform in watches.values()] == list(watches.values())


def test_routes_and_default_model_follow_the_models_unless_they_are_written() -> None:
    platform = loads("llm: {models: {tiny: , code: }}")
    assert dict(platform.gateway.routes) == {"code": "code"}
    assert platform.gateway.default_model == "tiny"
    written = loads("llm: {models: {tiny: , code: }}\ngateway: {routes: {fast: tiny}, defaultModel: code, port: 0}")
    assert (dict(written.gateway.routes), written.gateway.default_model) == ({"fast": "tiny"}, "code")


@pytest.mark.parametrize("price", ["0.1", "1e-6", "0.000001", "3", "999999.999999", "0"])
def test_prices_are_the_decimals_that_were_written(price: str) -> None:
    text = ", ".join(f"{kind}UsdPerMillionTokens: {price}" for kind in ("input", "cachedInput", "output"))
    platform = loads(f"llm: {{models: {{general: {{prices: {{{text}}}}}}}}}")
    assert platform.llm.models["general"].prices == Prices(
        input_usd_per_million_tokens=Decimal(price),
        cached_input_usd_per_million_tokens=Decimal(price),
        output_usd_per_million_tokens=Decimal(price),
    )
    assert loads(dump(platform)) == platform


def test_a_tenants_limits_are_the_decimals_that_were_written_and_come_back_equal() -> None:
    platform = loads("""
tenants:
  acme:
    description: the first
    budgets: {usdPerDay: 0.000000001, usdTotal: 999999.123456789, tokensPerMinute: 1000000000000000}
    sessionBudgets: {requestsPerMinute: 1}
    runBudgets: {concurrentRequests: 2, requestUsd: 1e-3}
    whenRedisIsAway: open
    teams: {research: {budgets: {tokensPerMonth: 5}}, empty: }
  plain:
""")
    acme, bare = platform.tenants["acme"], platform.tenants["plain"]
    assert acme.budgets == Budgets(
        usd_per_day=Decimal("1E-9"), usd_total=Decimal("999999.123456789"), tokens_per_minute=10**15
    )
    assert acme.session_budgets == Budgets(requests_per_minute=1)
    assert acme.run_budgets == Budgets(concurrent_requests=2, request_usd=Decimal("0.001"))
    assert (acme.when_redis_is_away, bare.when_redis_is_away) == ("open", "closed")
    assert acme.teams == {"research": Team(budgets=Budgets(tokens_per_month=5)), "empty": Team()}
    assert bare == Tenant()
    assert loads(dump(platform)) == platform


def test_no_more_of_a_tenant_may_wait_than_of_all() -> None:
    waiting = loads("gateway: {maxWaiting: {perModel: 500}}").gateway.max_waiting
    assert (waiting.per_tenant, waiting.per_model) == (500, 500)


def test_a_thousand_tenants_are_dumped_as_short_as_they_were_written() -> None:
    """What `stoker up` writes for its gateway has to be within what a platform.yaml may be."""
    written = "tenants:\n" + "".join(f"  t{number}: {{}}\n" for number in range(1000))
    assert len(dump(loads(written))) < len(written) + len(DEFAULTS)


def test_an_image_counts_as_what_is_written_or_as_its_engine_makes_of_it() -> None:
    platform = loads("""
llm:
  models:
    small: {}
    served: {engine: {url: "http://h/v1"}}
    said: {engine: {url: "http://h/v1"}, limits: {imageTokens: 2900}}
""")
    assert {name: model.image_tokens for name, model in platform.llm.models.items()} == {
        "small": 16,
        "served": 1024,
        "said": 2900,
    }


def test_a_full_file_is_dumped_and_loads_back_equal() -> None:
    platform = loads("""
global: {cluster: {name: x, region: eu-central-1}}
llm:
  models:
    general:
      engine: {url: "https://api.example.com/v1", apiKeyEnv: EXAMPLE_KEY, model: Org/Model-7B}
      aliases: [gpt-4o, "1e3", org/m:7b]
      limits: {contextTokens: 128000, maxOutputTokens: 4096, concurrency: 64, timeoutSeconds: 0.5}
tenants: {a: {description: "line one\\nline two: yes"}, b: }
redis: {url: "rediss://user@cache.example.com:6380/1", passwordEnv: CACHE_PASSWORD}
ledger: {url: "postgresql+psycopg://stoker@db.example.com/stoker", passwordEnv: DB_PASSWORD}
""")
    assert loads(dump(platform)) == platform
    assert platform.llm.models["general"].aliases == ("gpt-4o", "1e3", "org/m:7b")
    assert platform.llm.models["general"].limits.timeout_seconds == 0.5
    assert list(platform.tenants) == ["a", "b"]


@pytest.mark.parametrize(
    ("keda", "here", "cluster"),
    [
        ("minReplicaCount: 0", (0, 1), (0, 50)),
        ("maxReplicaCount: 4", (1, 4), (1, 4)),
        ("minReplicaCount: 3", (3, 3), (3, 50)),
        ("{minReplicaCount: 0, maxReplicaCount: 2}", (0, 2), (0, 2)),
    ],
)
def test_what_a_model_does_not_say_keda_says_for_all(
    keda: str, here: tuple[int, int], cluster: tuple[int, int]
) -> None:
    section = keda if keda.startswith("{") else f"{{{keda}}}"
    platform = loads(f"keda: {section}")
    assert platform.local_replicas("general") == Replicas(min=here[0], max=here[1])
    assert platform.cluster_replicas("general") == Replicas(min=cluster[0], max=cluster[1])
    own = loads(f"{{keda: {section}, llm: {{models: {{general: {{replicas: {{min: 1, max: 7}}}}}}}}}}")
    assert own.local_replicas("general") == own.cluster_replicas("general") == Replicas(min=1, max=7)


def test_the_behavior_of_the_guide_is_read_as_it_stands() -> None:
    """What the guide writes into its ScaledObject, under `keda`."""
    behavior = loads(
        """
keda:
  pollingInterval: 10
  cooldownPeriod: 300
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 300
          policies:
          - {type: Percent, value: 10, periodSeconds: 60}
        scaleUp:
          policies:
          - {type: Percent, value: 100, periodSeconds: 15}
          - {type: Pods, value: 5, periodSeconds: 15}
          selectPolicy: Max
"""
    ).keda.advanced.horizontal_pod_autoscaler_config.behavior
    assert [(one.type, one.value, one.period_seconds) for one in behavior.scale_down.policies] == [("Percent", 10, 60)]
    assert [(one.type, one.value) for one in behavior.scale_up.policies] == [("Percent", 100), ("Pods", 5)]
    assert (behavior.scale_up.stabilization_window_seconds, behavior.scale_down.stabilization_window_seconds) == (
        0,
        300,
    )
