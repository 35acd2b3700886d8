"""Rules of AWS beyond the examples in their docstrings."""

from pathlib import Path

import pytest
from asking import messages, said

from stoker.lint.cluster import Cluster
from stoker.lint.rules.aws import bucket_tags
from stoker.lint.rules.aws._versions import minor
from stoker.lint.run import lint
from stoker.manifests.edits import Add, Remove
from stoker.manifests.reading import read, read_text

HERE = Path(__file__).parent


def a_job(spec: str) -> str:
    return f"apiVersion: batch.aws.amazon.com/v1\nkind: JobDefinition\nmetadata: {{name: a}}\nspec: {spec}\n"


def several(targets: str, command: str) -> str:
    node = f"{{targetNodes: '{targets}', container: {{image: 'a:1', command: {command}}}}}"
    return a_job(f"{{type: multinode, nodeProperties: {{numNodes: 4, mainNode: 0, nodeRangeProperties: [{node}]}}}}")


def test_only_the_kind_of_batch() -> None:
    assert said("STK-AWS-001", a_job("{}")) == [("kind", "error")]
    assert said("STK-AWS-001", a_job("{}").replace("batch.aws.amazon.com", "example.com")) == []


@pytest.mark.parametrize(
    ("reason", "kind", "flagged"),
    [
        ("Host EC2*", "multinode", True),
        ("Host EC2*", "container", False),
        ("Spot instance interrupted", "container", True),
        ("Task failed to start", "multinode", False),
    ],
)
def test_reasons_for_another_try(reason: str, kind: str, flagged: bool) -> None:
    text = a_job(
        f"{{type: {kind}, retryStrategy: {{evaluateOnExit: [{{action: RETRY, onStatusReason: '{reason}'}}]}}}}"
    )
    path = "spec.retryStrategy.evaluateOnExit[0].onStatusReason"
    assert said("STK-AWS-005", text) == ([(path, "warning")] if flagged else [])


@pytest.mark.parametrize(
    ("targets", "flagged"), [("0:", True), ("0", True), ("0:3", True), ("1:", False), ("1:3", False)]
)
def test_who_has_the_main_node_s_address(targets: str, flagged: bool) -> None:
    text = several(targets, "[sh, -c, 'train $AWS_BATCH_JOB_MAIN_NODE_PRIVATE_IPV4_ADDRESS']")
    path = "spec.nodeProperties.nodeRangeProperties[0].container.command[2]"
    assert said("STK-AWS-006", text) == ([(path, "error")] if flagged else [])


def a_bucket(spec: str) -> str:
    return f"apiVersion: s3.services.k8s.aws/v1alpha1\nkind: Bucket\nmetadata: {{name: a}}\nspec: {spec}\n"


@pytest.mark.parametrize(
    ("tags", "moved"),
    [
        ("[{key: a, value: b}]", [{"key": "a", "value": "b"}]),
        ("{a: b}", [{"key": "a", "value": "b"}]),
        ("[{Key: a, Value: b}]", None),
        ("[{key: a}]", None),
        ("[]", None),
    ],
)
def test_tags_are_moved_where_that_is_safe(tags: str, moved: list[dict[str, str]] | None) -> None:
    cluster = Cluster(read_text(a_bucket(f"{{name: a, tags: {tags}}}")).manifests)
    (problem,) = bucket_tags.check(cluster)
    expected = () if moved is None else (Remove(("spec", "tags")), Add(("spec", "tagging"), {"tagSet": moved}))
    assert tuple(problem.edits) == expected


def test_tags_are_not_moved_over_others() -> None:
    cluster = Cluster(read_text(a_bucket("{tags: {a: b}, tagging: {tagSet: []}}")).manifests)
    (problem,) = bucket_tags.check(cluster)
    assert tuple(problem.edits) == ()


def test_the_form_of_tags_is_the_kind_s() -> None:
    queue = "apiVersion: sqs.services.k8s.aws/v1alpha1\nkind: Queue\nmetadata: {name: a}\nspec: {tags: TAGS}\n"
    role = "apiVersion: iam.services.k8s.aws/v1alpha1\nkind: Role\nmetadata: {name: a}\nspec: {tags: TAGS}\n"
    assert said("STK-AWS-008", queue.replace("TAGS", "{a: b}")) == []
    assert said("STK-AWS-008", queue.replace("TAGS", "[{key: a, value: b}]")) == [("spec.tags", "error")]
    assert said("STK-AWS-008", role.replace("TAGS", "[{key: a, value: b}]")) == []
    assert said("STK-AWS-008", role.replace("TAGS", "{a: b}")) == [("spec.tags", "error")]


def test_a_bucket_that_says_it_is_open() -> None:
    assert said("STK-AWS-009", a_bucket("{acl: public-read, encryption: {}, publicAccessBlock: {}}")) == [
        ("spec.acl", "warning")
    ]
    assert said("STK-AWS-009", a_bucket("{name: a}")) == [
        ("spec.encryption", "info"),
        ("spec.publicAccessBlock", "info"),
    ]


def a_node_group(spec: str) -> str:
    return f"apiVersion: eks.services.k8s.aws/v1alpha1\nkind: Nodegroup\nmetadata: {{name: a}}\nspec: {{{spec}}}\n"


@pytest.mark.parametrize(
    ("spec", "severity"),
    [
        ("amiType: AL2_x86_64", "warning"),
        ('amiType: AL2_ARM_64, version: "1.32"', "warning"),
        ('amiType: AL2_x86_64_GPU, version: "1.33"', "error"),
        ("amiType: AL2023_x86_64_NVIDIA", None),
        ("amiType: CUSTOM", None),
    ],
)
def test_amis_of_node_groups(spec: str, severity: str | None) -> None:
    assert said("STK-AWS-010", a_node_group(spec)) == ([("spec.amiType", severity)] if severity else [])


@pytest.mark.parametrize(
    ("version", "severity"),
    [
        ('"1.29"', "warning"),
        ('"1.30"', "warning"),
        ('"1.31"', "info"),
        ('"1.33"', "info"),
        ('"1.34"', None),
        ("1.30", None),
    ],
)
def test_versions_of_clusters(version: str, severity: str | None) -> None:
    text = (
        "apiVersion: eks.services.k8s.aws/v1alpha1\nkind: Cluster\nmetadata: {name: a}\n"
        f"spec: {{name: a, version: {version}}}\n"
    )
    assert said("STK-AWS-011", text) == ([("spec.version", severity)] if severity else [])


def test_what_is_a_version() -> None:
    assert [minor(each) for each in ("1.34", "1.34.2", "v1.34", 1.3, None)] == [34, 34, None, None, None]


IDENTITY = """
apiVersion: eks.services.k8s.aws/v1alpha1
kind: PodIdentityAssociation
metadata: {name: a}
spec: {clusterName: prod, namespace: ai, serviceAccount: a, roleARN: "arn:aws:iam::111122223333:role/a"}
"""
ACCOUNT = "---\napiVersion: v1\nkind: ServiceAccount\nmetadata: {name: a, namespace: ai}\n"


def test_who_an_identity_is_for() -> None:
    assert said("STK-AWS-012", IDENTITY + ACCOUNT) == []
    assert said("STK-AWS-012", IDENTITY) == [("spec.serviceAccount", "info")]
    assert said("STK-AWS-012", IDENTITY, exists=("ServiceAccount ai/a",)) == []
    assert said("STK-AWS-012", IDENTITY + ACCOUNT.replace("ai", "b")) == [("spec.namespace", "warning")]


@pytest.mark.parametrize(
    ("action", "missing"),
    [
        ('["sts:AssumeRole", "sts:TagSession"]', ""),
        ('"sts:*"', ""),
        ('"sts:AssumeRole"', "sts:TagSession"),
        ('"sts:TagSession"', "sts:AssumeRole"),
    ],
)
def test_what_pod_identity_needs(action: str, missing: str) -> None:
    text = (
        "apiVersion: iam.services.k8s.aws/v1alpha1\nkind: Role\nmetadata: {name: a}\nspec:\n  name: a\n"
        '  assumeRolePolicyDocument: \'{"Statement": [{"Effect": "Allow", "Principal": {"Service":'
        f' "pods.eks.amazonaws.com"}}, "Action": {action}}}]}}\'\n'
    )
    expected = [f"pods.eks.amazonaws.com may not {missing}: pods with this role get no credentials"] if missing else []
    assert messages("STK-AWS-013", text) == expected
    assert messages("STK-AWS-013", text.replace("pods.eks", "ec2")) == []


@pytest.mark.parametrize(
    ("values", "severity"),
    [
        ('{"containerInsights": {"enabled": true}}', None),
        ('{"customMetrics": {}}', "info"),
        ('{"customMetrics": ', "error"),
        ("customMetrics: {}", None),  # YAML is not judged
        ('{"a": ${B}}', None),
    ],
)
def test_configurations_of_add_ons(values: str, severity: str | None) -> None:
    text = (
        "apiVersion: eks.services.k8s.aws/v1alpha1\nkind: Addon\nmetadata: {name: a}\n"
        f"spec: {{name: amazon-cloudwatch-observability, configurationValues: '{values}'}}\n"
    )
    assert said("STK-AWS-014", text) == ([("spec.configurationValues", severity)] if severity else [])


def test_which_queue_needs_a_dead_letter_queue() -> None:
    queue = "apiVersion: sqs.services.k8s.aws/v1alpha1\nkind: Queue\nmetadata: {name: a}\nspec: {queueName: NAME}\n"
    assert said("STK-AWS-015", queue.replace("NAME", "tasks")) == [("spec.redrivePolicy", "info")]
    assert said("STK-AWS-015", queue.replace("NAME", "tasks-dlq")) == []
    arn = "arn:aws:sqs:us-west-2:111122223333:rest"
    both = queue.replace("NAME", f'tasks, redrivePolicy: \'{{"deadLetterTargetArn": "{arn}"}}\'')
    assert said("STK-AWS-015", f"{both}---\n{queue.replace('NAME', 'rest')}") == []


@pytest.mark.parametrize(
    ("document", "fine"),
    [
        ('{"Statement": []}', True),
        ('{"Version": "2012-10-17"}', False),
        ("{,}", False),
        ("[]", False),
        ("{${A}}", True),
    ],
)
def test_policies_that_are_none(document: str, fine: bool) -> None:
    text = (
        "apiVersion: iam.services.k8s.aws/v1alpha1\nkind: Role\nmetadata: {name: a}\n"
        f"spec: {{name: a, inlinePolicies: {{read: '{document}'}}}}\n"
    )
    assert said("STK-AWS-016", text) == ([] if fine else [("spec.inlinePolicies.read", "error")])


def test_the_faults_of_the_guide_are_where_they_should_be() -> None:
    report = lint(read([str(HERE / "guide_wrong")]))
    found = {(f.rule, f.path) for f in report.findings if f.rule.startswith("STK-AWS") and f.severity.value != "info"}
    node = "spec.nodeProperties.nodeRangeProperties[0]"
    assert found == {
        ("STK-AWS-001", "kind"),
        ("STK-AWS-002", "spec.platformCapabilities[1]"),
        ("STK-AWS-003", f"{node}.volumes"),
        ("STK-AWS-004", f"{node}.container.vcpus"),
        ("STK-AWS-004", f"{node}.container.memory"),
        ("STK-AWS-005", "spec.retryStrategy.evaluateOnExit[0].onStatusReason"),
        ("STK-AWS-006", f"{node}.container.command[6]"),
        ("STK-AWS-007", "spec.tags"),
    }
