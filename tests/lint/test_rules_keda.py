"""The rules about autoscalers: what they flag, where, how badly, and what they let be."""

from pathlib import Path

import pytest

from stoker.lint.config import Config
from stoker.lint.fixing import fix
from stoker.lint.rules import keda
from stoker.lint.run import lint
from stoker.manifests.reading import read, read_text

HERE = Path(__file__).parent
STREAM = '{address: "redis:6379", stream: tasks, consumerGroup: workers'
LAG = f'{STREAM}, lagCount: "5"}}'
PENDING = f"{STREAM}}}"
QUEUE = "{queueURL: q, awsRegion: us-west-2"
METRIC = "{serverAddress: s, query: sum(waiting), threshold: '8'}"

Found = list[tuple[str, str]]


def said(text: str, rule: str, config: Config | None = None) -> Found:
    """Severity and path of each finding of one rule."""
    report = lint(read_text(text), config)
    return [(finding.severity.value, finding.path) for finding in report.findings if finding.rule == rule]


def hints(text: str, rule: str) -> list[str]:
    return [finding.hint for finding in lint(read_text(text)).findings if finding.rule == rule]


def fixed(text: str) -> str:
    """The text after `--fix` by the rules of this area alone."""
    done = fix(read_text(text, "a.yaml"), Config(only=frozenset(rule.id for rule in keda.RULES)))
    return done.texts.get("a.yaml", text)


def scaled(*triggers: str, spec: str = "minReplicaCount: 1", metadata: str = "{name: chat, namespace: ai}") -> str:
    """A ScaledObject with these triggers, each in flow style without its braces."""
    return "\n".join(
        [
            "apiVersion: keda.sh/v1alpha1",
            "kind: ScaledObject",
            f"metadata: {metadata}",
            "spec:",
            "  scaleTargetRef: {name: chat}",
            *(f"  {line}" for line in spec.splitlines()),
            "  triggers:",
            *(f"  - {{{each}}}" for each in triggers),
            "",
        ]
    )


def stream(metadata: str) -> str:
    return f"type: redis-streams, metadata: {metadata}"


def deployment(container: str = "", *, name: str = "chat", replicas: str = "", namespace: str = "ai") -> str:
    return f"""\
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      containers:
      - {{name: side, image: "side:v1"}}
      - {{name: server, image: "chat:v1", {container}}}
"""


def hpa(target: str = "{apiVersion: apps/v1, kind: Deployment, name: chat}", metrics: str = "") -> str:
    return f"""\
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {{name: chat, namespace: ai}}
spec:
  scaleTargetRef: {target}
  maxReplicas: 5
  {metrics}
"""


# -- parameters --


def test_a_parameter_one_letter_off_is_named_and_one_of_other_case_is_mended() -> None:
    text = scaled(f'type: aws-sqs-queue, metadata: {QUEUE}, queuelength: "9"}}, authenticationRef: {{name: aws}}')
    assert said(text, "STK-KEDA-002") == [("warning", "spec.triggers[0].metadata.queuelength")]
    assert hints(text, "STK-KEDA-002") == ["queueLength"]
    assert 'queueLength: "9"' in fixed(text)


@pytest.mark.parametrize(
    ("trigger", "expected"),
    [
        # sign-in that many scalers share is not in the list of each
        (f"type: prometheus, metadata: {METRIC[:-1]}, authModes: bearer}}", []),
        (f"type: aws-sqs-queue, metadata: {QUEUE}, awsAccessKeyIDFromEnv: A, awsSecretAccessKeyFromEnv: B}}", []),
        # what belongs one level up
        (f"type: prometheus, metadata: {METRIC[:-1]}, metricType: Value}}", ["warning"]),
        # no longer read by anybody, and near nothing
        (f"type: prometheus, metadata: {METRIC[:-1]}, metricName: waiting}}", ["info"]),
        # whatever is written here is passed on
        ("type: external, metadata: {scalerAddress: 'a:1', anything: b}", []),
    ],
)
def test_which_parameters_are_unknown(trigger: str, expected: list[str]) -> None:
    assert [severity for severity, _ in said(scaled(trigger), "STK-KEDA-002")] == expected


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ("{stream: tasks}", ["address"]),
        ("{stream: tasks, host: redis}", ["address"]),
        ("{stream: tasks, host: redis, portFromEnv: PORT}", []),
        ("{address: 'redis:6379'}", ["stream"]),
        ("{addresses: 'a:1,b:1', stream: tasks}", []),
    ],
)
def test_an_address_may_be_given_in_several_ways(metadata: str, expected: list[str]) -> None:
    paths = [f"spec.triggers[0].metadata.{each}" for each in expected]
    assert said(scaled(stream(metadata)), "STK-KEDA-003") == [("error", path) for path in paths]


def test_a_parameter_may_come_from_a_trigger_authentication() -> None:
    trigger = "type: redis-streams, metadata: {stream: tasks}, authenticationRef: {name: redis}"
    auth = "---\napiVersion: keda.sh/v1alpha1\nkind: TriggerAuthentication\nmetadata: {name: redis, namespace: ai}\n"
    gives = auth + "spec: {secretTargetRef: [{parameter: address, name: s, key: k}]}\n"
    gives_not = auth + "spec: {secretTargetRef: [{parameter: password, name: s, key: k}]}\n"
    asks_a_vault = auth + "spec: {hashiCorpVault: {address: a, authentication: token, secrets: []}}\n"
    missing = [("error", "spec.triggers[0].metadata.address")]
    assert said(scaled(trigger) + gives, "STK-KEDA-003") == []
    assert said(scaled(trigger) + gives_not, "STK-KEDA-003") == missing
    assert said(scaled(trigger) + asks_a_vault, "STK-KEDA-003") == []
    assert said(scaled(trigger), "STK-KEDA-003") == []  # it is not in sight: nobody knows


def test_names_and_values_of_dimensions_go_in_pairs() -> None:
    start = (
        "type: aws-cloudwatch, metadata: {namespace: Chat, metricName: m, targetMetricValue: '1', minMetricValue: '0'"
    )
    two_and_one = f"{start}, awsRegion: r, dimensionName: a;b, dimensionValue: c}}"
    expression = f"{start}, awsRegion: r, expression: SELECT 1}}"
    assert said(scaled(two_and_one), "STK-KEDA-004") == [("error", "spec.triggers[0].metadata.dimensionValue")]
    assert said(scaled(expression), "STK-KEDA-004") == []


@pytest.mark.parametrize(
    ("metadata", "is_wrong"),
    [
        (f'{STREAM}, lagCount: "5"}}', False),
        (f'{STREAM}, lagCount: " 5 "}}', False),
        (f"{STREAM}, lagCount: five}}", True),
        (f'{STREAM}, lagCount: "${{lag}}"}}', False),
        (f'{STREAM}, lagCount: "5m"}}', True),
        (f'{STREAM}, lagCount: "5", unsafeSsl: "yes"}}', True),
        (f'{STREAM}, lagCount: "5", unsafeSsl: "true"}}', False),
    ],
)
def test_numbers_and_truths_are_read_from_text(metadata: str, is_wrong: bool) -> None:
    assert bool(said(scaled(stream(metadata)), "STK-KEDA-005")) is is_wrong


def test_one_of_several_words_is_taken() -> None:
    metadata = "{bootstrapServers: 'k:1', consumerGroup: g, topic: t, offsetResetPolicy: newest}"
    assert hints(scaled(f"type: kafka, metadata: {metadata}"), "STK-KEDA-005") == ["one of latest, earliest"]


# -- variables of the target --

FROM_ENV = stream('{addressFromEnv: REDIS, stream: tasks, consumerGroup: workers, lagCount: "5"}')
NO_VARIABLE = [("error", "spec.triggers[0].metadata.addressFromEnv")]


def test_a_variable_is_read_from_the_first_container_or_from_the_one_that_is_named() -> None:
    target = deployment("env: [{name: REDIS, value: 'redis:6379'}]")
    named = scaled(FROM_ENV).replace("{name: chat}\n", "{name: chat, envSourceContainerName: server}\n")
    wrongly_named = named.replace("server", "servre")
    assert said(scaled(FROM_ENV) + target, "STK-KEDA-007") == NO_VARIABLE
    assert said(named + target, "STK-KEDA-007") == []
    assert said(wrongly_named + target, "STK-KEDA-007") == NO_VARIABLE


def test_variables_of_a_config_map_count_and_of_one_out_of_sight_are_not_judged() -> None:
    named = scaled(FROM_ENV).replace("{name: chat}\n", "{name: chat, envSourceContainerName: server}\n")
    target = deployment("envFrom: [{configMapRef: {name: redis}, prefix: RE}]")
    config_map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: redis, namespace: ai}\ndata: {%s: r}\n"
    assert said(named + target + config_map % "DIS", "STK-KEDA-007") == []
    assert said(named + target + config_map % "REDIS", "STK-KEDA-007") == NO_VARIABLE
    assert said(named + target, "STK-KEDA-007") == [("info", "spec.triggers[0].metadata.addressFromEnv")]


# -- what redis-streams counts --


@pytest.mark.parametrize(
    ("metadata", "ignored"),
    [
        (
            f'{STREAM}, lagCount: "5", pendingEntriesCount: "9", streamLength: "9"}}',
            ["pendingEntriesCount", "streamLength"],
        ),
        (f'{STREAM}, pendingEntriesCount: "9", streamLength: "9"}}', ["streamLength"]),
        ('{address: a, stream: s, lagCount: "5", streamLength: "9"}', ["lagCount"]),
        (f'{STREAM}, lagCount: "0", pendingEntriesCount: "9"}}', []),
    ],
)
def test_thresholds_of_other_modes_are_ignored(metadata: str, ignored: list[str]) -> None:
    expected = [("warning", f"spec.triggers[0].metadata.{each}") for each in ignored]
    assert said(scaled(stream(metadata)), "STK-KEDA-008") == expected


def test_a_leftover_threshold_beside_lag_count_is_taken_away() -> None:
    text = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat}
spec:
  scaleTargetRef: {name: chat}
  minReplicaCount: 1
  triggers:
  - type: redis-streams
    metadata:
      address: redis:6379  # the one in ai
      stream: tasks
      consumerGroup: workers
      lagCount: "5"
      streamLength: "10"
"""
    assert fixed(text) == text.replace('      streamLength: "10"\n', "")


@pytest.mark.parametrize(
    ("triggers", "spec", "expected"),
    [
        ([PENDING], "minReplicaCount: 1", {"STK-KEDA-009": ["warning"]}),
        ([PENDING], "minReplicaCount: 0", {"STK-KEDA-010": ["error"]}),
        ([PENDING], "maxReplicaCount: 9", {"STK-KEDA-010": ["error"]}),  # 0 is the default
        ([PENDING], "minReplicaCount: 2\nidleReplicaCount: 0", {"STK-KEDA-010": ["error"]}),
        ([LAG], "minReplicaCount: 0", {"STK-KEDA-011": ["info"]}),
        ([LAG], "minReplicaCount: 1", {}),
        ([LAG, PENDING], "minReplicaCount: 0", {}),
        ([LAG.replace("tasks", "others"), PENDING], "minReplicaCount: 0", {"STK-KEDA-010": ["error"]}),
        (["{address: a, stream: tasks}", PENDING], "minReplicaCount: 0", {"STK-KEDA-012": ["info"]}),
    ],
)
def test_what_waits_and_what_is_in_work(triggers: list[str], spec: str, expected: dict[str, list[str]]) -> None:
    text = scaled(*map(stream, triggers), spec=spec)
    rules = [f"STK-KEDA-{number:03}" for number in (9, 10, 11, 12)]
    found = {rule: [severity for severity, _ in said(text, rule)] for rule in rules}
    assert {rule: severities for rule, severities in found.items() if severities} == expected


def test_a_deadlock_that_another_trigger_breaks_is_less_bad() -> None:
    text = scaled(stream(PENDING), f"type: prometheus, metadata: {METRIC}", spec="minReplicaCount: 0")
    assert [severity for severity, _ in said(text, "STK-KEDA-010")] == ["warning"]


# -- times --


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("minReplicaCount: 1\ncooldownPeriod: 300  # wait five minutes before scaling down", ["warning"]),
        ("minReplicaCount: 1\n# how long a replica stays idle\ncooldownPeriod: 300", ["warning"]),
        ("minReplicaCount: 1  # scaling down is slow\ncooldownPeriod: 300", ["info"]),
        ("minReplicaCount: 1\ncooldownPeriod: 300", ["info"]),
        ("minReplicaCount: 0\ncooldownPeriod: 300  # wait before scaling down", []),
        ("minReplicaCount: 2\nidleReplicaCount: 0\ncooldownPeriod: 300", []),
    ],
)
def test_a_cooldown_is_of_the_step_to_zero(spec: str, expected: list[str]) -> None:
    text = scaled(f"type: prometheus, metadata: {METRIC}", spec=spec)
    assert [severity for severity, _ in said(text, "STK-KEDA-013")] == expected


def test_the_polling_interval_counts_where_the_hpa_reads_cached_metrics() -> None:
    spec = "minReplicaCount: 1\npollingInterval: 5"
    assert said(scaled(f"type: prometheus, metadata: {METRIC}", spec=spec), "STK-KEDA-014") != []
    cached = f"type: prometheus, useCachedMetrics: true, metadata: {METRIC}"
    assert said(scaled(cached, spec=spec), "STK-KEDA-014") == []


@pytest.mark.parametrize(
    ("line", "is_wrong"),
    [
        ("stabilizationWindowSeconds: 300  # 10 minutes", True),
        ("stabilizationWindowSeconds: 300  # five minutes", False),
        ("stabilizationWindowSeconds: 300  # 300s", False),
        ("stabilizationWindowSeconds: 300  # longer than the 60 s of a request", False),
        ("stabilizationWindowSeconds: 300  # 5 minutes, as a node needs 8 minutes", False),
        ("policies: [{type: Percent, value: 10, periodSeconds: 60}]  # 25%", True),
        ("policies: [{type: Pods, value: 5, periodSeconds: 15}]  # at least 5 pods", False),
    ],
)
def test_a_comment_is_held_against_the_value_beside_it(line: str, is_wrong: bool) -> None:
    spec = f"advanced:\n  horizontalPodAutoscalerConfig:\n    behavior:\n      scaleDown:\n        {line}"
    assert bool(said(scaled(f"type: prometheus, metadata: {METRIC}", spec=spec), "STK-KEDA-035")) is is_wrong


def test_the_behavior_is_held_to_the_hpas_bounds() -> None:
    behavior = "{scaleUp: {policies: []}, scaleDown: {policies: [{type: Pods, value: 0, periodSeconds: 3600}]}}"
    spec = f"advanced: {{horizontalPodAutoscalerConfig: {{behavior: {behavior}}}}}"
    start = "spec.advanced.horizontalPodAutoscalerConfig.behavior."
    paths = ["scaleUp.policies", "scaleDown.policies[0].value", "scaleDown.policies[0].periodSeconds"]
    found = said(scaled(f"type: prometheus, metadata: {METRIC}", spec=spec), "STK-KEDA-046")
    assert sorted(found) == sorted(("error", start + path) for path in paths)


# -- CloudWatch --


def cloudwatch(more: str, *, trigger: str = "") -> str:
    fields = {"namespace": "Chat", "metricName": "Waiting", "dimensionName": "M", "dimensionValue": "chat"}
    fields |= {"targetMetricValue": "'20'", "minMetricValue": "'0'", "awsRegion": "us-west-2"}
    for each in filter(None, more.split(", ")):
        key, _, value = each.partition(": ")
        fields[key] = value
    written = ", ".join(f"{key}: {value}" for key, value in fields.items())
    return f"type: aws-cloudwatch, metadata: {{{written}}}, authenticationRef: {{name: aws}}{trigger}"


@pytest.mark.parametrize(
    ("trigger", "is_wrong"),
    [
        (cloudwatch("metricName: ChatLatency"), True),
        (cloudwatch("metricName: TimeToFirstToken"), True),
        (cloudwatch("metricName: ChatLatency", trigger=", metricType: Value"), False),
        (cloudwatch("metricName: ChatLatency, metricStat: Sum"), False),
        (cloudwatch("metricName: Waiting"), False),
        ("type: prometheus, metadata: {serverAddress: s, query: 'histogram_quantile(0.9, x)', threshold: '2'}", True),
        (
            "type: prometheus, metadata: {serverAddress: s, query: sum(rate(request_seconds_sum[1m])), threshold: '2'}",
            False,
        ),
    ],
)
def test_a_latency_is_no_sum(trigger: str, is_wrong: bool) -> None:
    assert bool(said(scaled(trigger), "STK-KEDA-015")) is is_wrong


def test_a_percentile_in_a_metrics_name_is_asked_for() -> None:
    assert hints(scaled(cloudwatch("metricName: latency-p99")), "STK-KEDA-016") == ["metricStat: p99"]
    assert hints(scaled(cloudwatch("metricName: latency-p99, metricStat: p99")), "STK-KEDA-016") == []
    assert hints(scaled(cloudwatch("metricName: p4d-nodes")), "STK-KEDA-016") == []


@pytest.mark.parametrize(
    ("more", "least", "expected"),
    [
        ("minMetricValue: '0'", 0, []),
        ("minMetricValue: '5'", 1, ["info"]),
        ("minMetricValue: '5'", 0, ["warning"]),
        ("minMetricValue: '5', activationTargetMetricValue: '5'", 0, ["info"]),
        ("minMetricValue: '20'", 1, ["warning"]),
        ("minMetricValue: '20', ignoreNullValues: 'false'", 1, []),
    ],
)
def test_what_is_reported_without_data(more: str, least: int, expected: list[str]) -> None:
    text = scaled(cloudwatch(more), spec=f"minReplicaCount: {least}")
    assert [severity for severity, _ in said(text, "STK-KEDA-017")] == expected


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("", []),
        ("metricStatPeriod: '60'", []),
        ("metricStatPeriod: '45'", ["metricStatPeriod"]),
        ("metricCollectionTime: '120'", ["metricCollectionTime"]),
        ("metricStatPeriod: '600'", ["metricStatPeriod"]),
        ("metricStatPeriod: '60', metricCollectionTime: '90'", ["metricCollectionTime"]),
    ],
)
def test_a_window_is_a_multiple_of_the_period(more: str, expected: list[str]) -> None:
    paths = [f"spec.triggers[0].metadata.{each}" for each in expected]
    assert said(scaled(cloudwatch(more)), "STK-KEDA-034") == [("error", path) for path in paths]


@pytest.mark.parametrize(
    ("namespace", "is_flagged"),
    [("AgenicAI", True), ("AgenticAI", False), ("ChatPlattform", True), ("AWS/SQS", False), ("Trainings", False)],
)
def test_a_namespace_one_letter_off(namespace: str, is_flagged: bool) -> None:
    assert bool(said(scaled(cloudwatch(f"namespace: {namespace}")), "STK-KEDA-038")) is is_flagged


# -- fallbacks and identities --


def test_a_second_trigger_is_no_fallback() -> None:
    text = f"""\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {{name: chat}}
spec:
  scaleTargetRef: {{name: chat}}
  triggers:
  # there is no fallback: both count
  - type: prometheus
    metadata: {METRIC}
  - type: prometheus  # backup of the first
    metadata: {METRIC}
"""
    assert said(text, "STK-KEDA-018") == [("warning", "spec.triggers[1].type")]


def test_identity_owner_goes_where_a_trigger_authentication_says_it() -> None:
    owner = f"type: aws-sqs-queue, metadata: {QUEUE}, identityOwner: operator}}"
    auth = """\
---
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: aws, namespace: ai}
spec: {podIdentity: {provider: aws}}
"""
    with_auth = scaled(f"{owner}, authenticationRef: {{name: aws}}") + auth
    assert [severity for severity, _ in said(scaled(owner), "STK-KEDA-020")] == ["warning"]
    assert fixed(scaled(owner)) == scaled(owner)
    assert "identityOwner" not in fixed(with_auth)
    # an identity it has, all the same
    assert said(scaled(owner), "STK-KEDA-045") == []
    assert said(scaled(f"type: aws-sqs-queue, metadata: {QUEUE}}}"), "STK-KEDA-045") != []


def test_the_type_of_a_cpu_trigger_moves_to_metric_type() -> None:
    text = """\
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata: {name: chat}
spec:
  scaleTargetRef: {name: chat}
  minReplicaCount: 1
  triggers:
  - type: cpu
    metadata:
      type: Utilization
      value: "70"
"""
    assert said(text, "STK-KEDA-021") == [("error", "spec.triggers[0].metadata.type")]
    assert said(fixed(text), "STK-KEDA-021") == []
    assert "metricType: Utilization" in fixed(text)


def test_an_authentication_may_be_said_to_be_in_the_cluster() -> None:
    text = scaled(f"type: prometheus, metadata: {METRIC}, authenticationRef: {{name: watch}}")
    assert said(text, "STK-KEDA-022") == [("warning", "spec.triggers[0].authenticationRef.name")]
    assert said(text, "STK-KEDA-022", Config(exists=("TriggerAuthentication ai/watch",))) == []


def test_a_secret_made_by_an_external_secret_has_what_keys_it_has() -> None:
    auth = """\
apiVersion: keda.sh/v1alpha1
kind: TriggerAuthentication
metadata: {name: redis, namespace: ai}
spec: {secretTargetRef: [{parameter: password, name: redis, key: password}]}
"""
    made = """\
---
apiVersion: external-secrets.io/v1
kind: ExternalSecret
metadata: {name: for-redis, namespace: ai}
spec:
  secretStoreRef: {name: aws}
  target: {name: redis}
"""
    key, name = "spec.secretTargetRef[0].key", "spec.secretTargetRef[0].name"
    plain = "---\napiVersion: v1\nkind: Secret\nmetadata: {name: redis, namespace: ai}\ndata: {pass: eA==}\n"
    assert said(auth, "STK-KEDA-024") == [("info", name)]
    assert said(auth + made, "STK-KEDA-024") == []
    assert said(auth + plain, "STK-KEDA-024") == [("error", key)]
    of_aws = plain.replace("apiVersion: v1", "apiVersion: secretsmanager.services.k8s.aws/v1alpha1")
    assert of_aws != plain
    assert said(auth + made + of_aws, "STK-KEDA-024") == []


# -- targets --

OF_METRIC = f"type: prometheus, metadata: {METRIC}"


def test_two_autoscalers_of_one_target_and_those_that_may_share() -> None:
    other = scaled(OF_METRIC, metadata="{name: other, namespace: ai}")
    elsewhere = scaled(OF_METRIC, metadata="{name: chat, namespace: test}")
    handed_over = scaled(
        OF_METRIC,
        metadata='{name: chat, namespace: ai, annotations: {scaledobject.keda.sh/transfer-hpa-ownership: "true"}}',
    )
    two = [("error", "spec.scaleTargetRef.name")]
    assert said(f"{scaled(OF_METRIC)}---\n{other}", "STK-KEDA-025") == two
    assert said(scaled(OF_METRIC) + hpa(), "STK-KEDA-025") == two
    assert said(f"{scaled(OF_METRIC)}---\n{elsewhere}", "STK-KEDA-025") == []
    assert said(handed_over + hpa(), "STK-KEDA-025") == []


def test_replicas_beside_an_autoscaler_are_taken_away_and_the_rest_stays() -> None:
    target = deployment(replicas="replicas: 3  # to begin with")
    text = hpa() + target
    assert said(text, "STK-KEDA-026") == [("warning", "spec.replicas")]
    assert said(fixed(text), "STK-KEDA-026") == []
    assert said(hpa("{apiVersion: apps/v1, kind: StatefulSet, name: chat}") + target, "STK-KEDA-026") == []
    assert said(hpa() + deployment(replicas="replicas: 3", namespace="test"), "STK-KEDA-026") == []


@pytest.mark.parametrize(
    ("line", "is_claimed"),
    [
        ("replicas: 1  # KEDA will manage this", True),
        ("replicas: 1  # the autoscaler sets it", True),
        ("replicas: 1  # not scaled by KEDA", False),
        ("replicas: 1  # one is enough", False),
    ],
)
def test_a_comment_claims_an_autoscaler(line: str, is_claimed: bool) -> None:
    assert bool(said(deployment(replicas=line), "STK-KEDA-027")) is is_claimed
    assert said(deployment(replicas=line) + "---\n" + scaled(OF_METRIC), "STK-KEDA-027") == []


def test_a_target_that_is_not_there_and_what_was_perhaps_meant() -> None:
    elsewhere = deployment(namespace="test")
    other = elsewhere.replace("chat", "other")
    assert said(scaled(OF_METRIC), "STK-KEDA-028") == [("info", "spec.scaleTargetRef.name")]  # nothing to compare with
    assert said(scaled(OF_METRIC) + other, "STK-KEDA-028") == [("warning", "spec.scaleTargetRef.name")]
    assert said(scaled(OF_METRIC) + elsewhere, "STK-KEDA-028") == [("warning", "metadata.namespace")]
    assert said(scaled(OF_METRIC), "STK-KEDA-028", Config(exists=("Deployment ai/*",))) == []


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("minReplicaCount: 5\nmaxReplicaCount: 4", [("error", "spec.minReplicaCount")]),
        ("minReplicaCount: 101", [("error", "spec.minReplicaCount")]),
        ("minReplicaCount: 0\nidleReplicaCount: 0", [("error", "spec.idleReplicaCount")]),
        ("minReplicaCount: 3\nidleReplicaCount: 1", [("warning", "spec.idleReplicaCount")]),
        ("minReplicaCount: 3\nidleReplicaCount: 0", []),
        ("minReplicaCount: 0\nmaxReplicaCount: 0", [("error", "spec.maxReplicaCount")]),
    ],
)
def test_bounds(spec: str, expected: Found) -> None:
    assert said(scaled(OF_METRIC, spec=spec), "STK-KEDA-030") == expected


def test_a_fallback_ends_at_the_maximum() -> None:
    spec = "maxReplicaCount: 4\nfallback: {failureThreshold: 3, replicas: 5}"
    assert said(scaled(OF_METRIC, spec=spec), "STK-KEDA-031") == [("warning", "spec.fallback.replicas")]


CPU = "type: cpu, metricType: Utilization, metadata: {value: '70'}"


def test_a_utilisation_needs_a_request_of_every_container_that_it_measures() -> None:
    one_has = deployment("resources: {limits: {cpu: 1}}")
    named = CPU.replace("}", ", containerName: server}")
    limit_range = """\
---
apiVersion: v1
kind: LimitRange
metadata: {name: usual, namespace: ai}
spec: {limits: [{type: Container, defaultRequest: {cpu: 100m}}]}
"""
    assert said(scaled(CPU) + one_has, "STK-KEDA-032") == [("warning", "spec.triggers[0].type")]
    assert said(scaled(named) + one_has, "STK-KEDA-032") == []
    assert said(scaled(CPU) + one_has + limit_range, "STK-KEDA-032") == []
    assert said(scaled(CPU.replace("Utilization", "AverageValue")) + one_has, "STK-KEDA-032") == []


def test_an_hpa_of_version_1_measures_cpu() -> None:
    old = hpa().replace("autoscaling/v2", "autoscaling/v1")
    assert said(old + deployment(), "STK-KEDA-032") == [("warning", "spec.targetCPUUtilizationPercentage")]


def test_cpu_alone_never_goes_to_zero() -> None:
    path = [("error", "spec.minReplicaCount")]
    assert said(scaled(CPU, spec="maxReplicaCount: 5"), "STK-KEDA-033") == path
    assert said(scaled(CPU, spec="minReplicaCount: 0"), "STK-KEDA-033") == path
    assert said(scaled(CPU, spec="minReplicaCount: 1"), "STK-KEDA-033") == []
    assert said(scaled(CPU, OF_METRIC, spec="minReplicaCount: 0"), "STK-KEDA-033") == []


def test_a_maximum_is_asked_for_where_replicas_take_gpus() -> None:
    gpu = deployment("resources: {limits: {nvidia.com/gpu: 1}}")
    assert said(scaled(OF_METRIC) + gpu, "STK-KEDA-036") == [("warning", "spec.maxReplicaCount")]
    assert said(scaled(OF_METRIC) + deployment(), "STK-KEDA-036") == []
    assert said(scaled(OF_METRIC, spec="maxReplicaCount: 4") + gpu, "STK-KEDA-036") == []


def test_a_pause_that_is_off_is_no_pause() -> None:
    metadata = '{name: chat, annotations: {autoscaling.keda.sh/paused: "%s"}}'
    assert said(scaled(OF_METRIC, metadata=metadata % "true"), "STK-KEDA-037") != []
    assert said(scaled(OF_METRIC, metadata=metadata % "false"), "STK-KEDA-037") == []


def test_an_hpa_is_told_what_its_target_is_where_that_is_in_sight() -> None:
    text = hpa("{name: chat}") + deployment()
    kind, version = "spec.scaleTargetRef.kind", "spec.scaleTargetRef.apiVersion"
    assert said(text, "STK-KEDA-040") == [("error", version), ("error", kind)]
    assert said(text, "STK-API-004") == []  # said once, with the reason
    mended = fixed(text)
    assert said(mended, "STK-KEDA-040") == []
    assert "kind: Deployment" in mended
    assert fixed(hpa("{name: chat}")) == hpa("{name: chat}")  # of a target out of sight nobody knows


def test_an_hpa_without_metrics_says_it_once() -> None:
    gpu = deployment("resources: {limits: {nvidia.com/gpu: 1, cpu: 2}}").replace('image: "side:v1"', IMAGE_WITH_CPU)
    assert said(hpa(), "STK-KEDA-039") == [("info", "spec.metrics")]
    assert said(hpa() + gpu, "STK-KEDA-039") == [("warning", "spec.metrics")]
    assert said(hpa() + deployment(), "STK-KEDA-039") == []
    assert said(hpa() + deployment(), "STK-KEDA-032") == [("warning", "spec.metrics")]


IMAGE_WITH_CPU = 'image: "side:v1", resources: {limits: {cpu: 1}}'


# -- jobs, cron, formulas --


def job(trigger: str, strategy: str) -> str:
    return f"""\
apiVersion: keda.sh/v1alpha1
kind: ScaledJob
metadata: {{name: batch}}
spec:
  jobTargetRef:
    template:
      spec:
        restartPolicy: Never
        containers: [{{name: worker, image: "batch:v1"}}]
  scalingStrategy: {{strategy: {strategy}}}
  triggers:
  - {{{trigger}}}
"""


def test_a_strategy_goes_with_what_is_counted() -> None:
    sqs = f"type: aws-sqs-queue, metadata: {QUEUE}}}, authenticationRef: {{name: aws}}"
    only_visible = sqs.replace(QUEUE, f'{QUEUE}, scaleOnInFlight: "false"')
    wrong = [("warning", "spec.scalingStrategy.strategy")]
    assert said(job(stream(LAG), "default"), "STK-KEDA-041") == wrong
    assert said(job(stream(LAG), "accurate"), "STK-KEDA-041") == []
    assert said(job(sqs, "accurate"), "STK-KEDA-041") == wrong
    assert said(job(sqs, "default"), "STK-KEDA-041") == []
    assert said(job(only_visible, "default"), "STK-KEDA-041") == wrong


def test_cron_times() -> None:
    cron = "type: cron, metadata: {timezone: UTC, start: '%s', end: '%s', desiredReplicas: '%s'}"
    start, end = "spec.triggers[0].metadata.start", "spec.triggers[0].metadata.end"
    assert said(scaled(cron % ("0 8 * * *", "0 18 * * *", 4)), "STK-KEDA-042") == []
    assert said(scaled(cron % ("0 25 * * *", "0 18 * * *", 4)), "STK-KEDA-042") == [("error", start)]
    assert said(scaled(cron % ("0 8 * * *", "0 8 * * *", 4)), "STK-KEDA-042") == [("error", end)]
    many = said(scaled(cron % ("0 8 * * *", "0 18 * * *", 101)), "STK-KEDA-042")
    assert many == [("warning", "spec.triggers[0].metadata.desiredReplicas")]


@pytest.mark.parametrize(
    ("formula", "unknown"),
    [
        ("a + b", []),
        ("max([a, b]) > 1 ? a : b", []),
        ("let x = a; x + count([a, b], {# > 1})", []),
        ("a + c", ["c"]),
        ("a + load", ["load"]),  # of cpu: only the HPA reads it
        ("a + 'c'", []),
    ],
)
def test_a_formula_knows_triggers_by_their_names(formula: str, unknown: list[str]) -> None:
    triggers = [f"name: {name}, {OF_METRIC}" for name in ("a", "b")]
    spec = f'advanced:\n  scalingModifiers: {{target: "8", formula: "{formula}"}}'
    found = lint(read_text(scaled(*triggers, f"name: load, {CPU}", spec=spec))).findings
    messages = [each.message for each in found if each.rule == "STK-KEDA-043"]
    assert [
        ("cpu" if name == "load" else name) in message for name, message in zip(unknown, messages, strict=True)
    ] == [True for _ in unknown]


def test_triggers_of_one_name() -> None:
    text = scaled(f"name: a, {OF_METRIC}", f"name: a, {OF_METRIC}")
    assert said(text, "STK-KEDA-044") == [("error", "spec.triggers[1].name")]


# -- the guide --

SCALER, GENERAL = "ScaledObject ai/chat", "Deployment ai/general"
GRAPH = ("Deployment ${schema.spec.modelName}", "HorizontalPodAutoscaler ${schema.spec.modelName}")
STREAMS, SQS, WATCH = (f"spec.triggers[{i}].metadata" for i in range(3))


def test_the_guides_faults_are_found_at_their_places() -> None:
    report = lint(read([str(HERE / "guide_wrong")]))
    found = {(f.rule[-3:], f.object, f.path) for f in report.findings if f.rule.startswith("STK-KEDA-")}
    assert found == {
        ("026", "Deployment ai/chat", "spec.replicas"),
        ("019", SCALER, "spec.fallback"),
        ("014", SCALER, "spec.pollingInterval"),
        ("013", SCALER, "spec.cooldownPeriod"),
        ("009", SCALER, f"{STREAMS}.lagCount"),
        ("007", SCALER, f"{STREAMS}.addressFromEnv"),
        ("008", SCALER, f"{STREAMS}.streamLength"),
        ("018", SCALER, "spec.triggers[1].type"),
        ("020", SCALER, f"{SQS}.identityOwner"),
        ("015", SCALER, "spec.triggers[2].metricType"),
        ("004", SCALER, f"{WATCH}.dimensionName"),
        ("016", SCALER, f"{WATCH}.metricStat"),
        ("038", SCALER, f"{WATCH}.namespace"),
        ("017", SCALER, f"{WATCH}.minMetricValue"),
        ("020", SCALER, f"{WATCH}.identityOwner"),
        ("027", GENERAL, "spec.replicas"),
        ("038", "Deployment chat", "spec.template.spec.containers[0].env[0].value"),
        ("026", GRAPH[0], "spec.replicas"),
        ("032", GRAPH[1], "spec.metrics"),
        ("040", GRAPH[1], "spec.scaleTargetRef.kind"),
        ("040", GRAPH[1], "spec.scaleTargetRef.apiVersion"),
    }


def test_the_corrected_forms_have_no_finding_of_this_area() -> None:
    report = lint(read([str(HERE / "guide_right")]))
    assert [f for f in report.findings if f.rule.startswith("STK-KEDA-")] == []


# -- what is written otherwise --


def test_a_number_without_quotes_is_judged_as_the_number_that_it_is() -> None:
    text = scaled(stream(f"{STREAM}, lagCount: 5}}"), spec="minReplicaCount: 1")
    assert {finding.rule for finding in lint(read_text(text)).findings if finding.rule.startswith("STK-KEDA-")} == {
        "STK-KEDA-019",
        "STK-KEDA-028",
    }


def test_an_object_of_keda_1_is_moved_to_keda_2() -> None:
    text = "apiVersion: keda.k8s.io/v1alpha1\nkind: ScaledObject\nmetadata: {name: chat}\nspec:\n"
    text += f"  scaleTargetRef:\n    deploymentName: chat\n  triggers:\n  - {{{OF_METRIC}}}\n"
    assert said(text, "STK-KEDA-047") == [("error", "apiVersion")]
    moved = text.replace("keda.k8s.io", "keda.sh").replace("deploymentName", "name")
    assert fixed(text) == moved


def test_an_autoscaler_of_http_requests_scales_too() -> None:
    http = """\
---
apiVersion: http.keda.sh/v1alpha1
kind: HTTPScaledObject
metadata: {name: chat, namespace: ai}
spec:
  scaleTargetRef: {name: chat, kind: Deployment, apiVersion: apps/v1, service: chat, port: 8080}
"""
    text = deployment(replicas="replicas: 1  # KEDA가 관리") + http
    assert said(text, "STK-KEDA-027") == []
    assert said(text, "STK-KEDA-026") == [("warning", "spec.replicas")]
    assert said(deployment(replicas="replicas: 1  # KEDA가 관리"), "STK-KEDA-027") == [("warning", "spec.replicas")]
