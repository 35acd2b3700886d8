"""Rules of kro beyond the examples in their docstrings."""

from pathlib import Path

import pytest
from asking import messages, said

from stoker.lint.rules.kro._graphs import expressions, references
from stoker.lint.rules.kro._simple_schema import leaf, text_fits, value_fits
from stoker.lint.run import lint
from stoker.manifests.reading import read

HERE = Path(__file__).parent


def a_graph(spec: str, *resources: str, instance: str = "") -> str:
    """A graph of the kind Stack with this spec of its schema, resources as `id: YAML`, and an instance."""
    listed = "".join(
        f"  - id: {name}\n    template: {template}\n" for name, template in (each.split(": ", 1) for each in resources)
    )
    text = (
        "apiVersion: kro.run/v1alpha1\nkind: ResourceGraphDefinition\nmetadata: {name: stack}\nspec:\n"
        f"  schema: {{apiVersion: v1alpha1, kind: Stack, spec: {spec}}}\n  resources:\n{listed}"
    )
    if instance:
        text += f"---\napiVersion: kro.run/v1alpha1\nkind: Stack\nmetadata: {{name: a}}\nspec: {instance}\n"
    return text


def a_map(id_: str, text: str) -> str:
    return f"{id_}: {{apiVersion: v1, kind: ConfigMap, metadata: {{name: '{id_}'}}, data: {{a: '{text}'}}}}"


BUCKET = "bucket: {apiVersion: s3.services.k8s.aws/v1alpha1, kind: Bucket, metadata: {name: a}, spec: {name: a}}"
SERVICE = "service: {apiVersion: v1, kind: Service, metadata: {name: a}, spec: {ports: [{port: 80}]}}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a ${b.c} d ${e}", ["b.c", "e"]),
        ('${ {"a": b.c} }', [' {"a": b.c} ']),
        ("${never", []),
        ("$HOME {a}", []),
    ],
)
def test_where_expressions_are(text: str, found: list[str]) -> None:
    assert list(expressions(text)) == found


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ("schema.spec.name", [("schema", ("spec", "name"))]),
        ('server.metadata.name + ".svc.local"', [("server", ("metadata", "name"))]),
        ("size(server.status.conditions)", [("server", ("status", "conditions"))]),
        ("server.spec.ports[0].port", [("server", ("spec", "ports", 0, "port"))]),
        ("server.metadata.name.startsWith('a')", [("server", ("metadata", "name"))]),
        ("server.status.?ready.seconds", [("server", ("status", "?ready"))]),
        ("schema.spec.?size.orValue(3)", [("schema", ("spec", "?size"))]),
        ('"${USER}"', []),
        ("schema.spec.ports.transformMap(i, v, v + 1)", [("schema", ("spec", "ports"))]),
        ("pods.items.map(p, p.metadata.name)", [("pods", ("items",)), ("p", ("metadata", "name"))]),
        ("has(schema.spec.a) ? 1 : 2", [("schema", ("spec", "a"))]),
    ],
)
def test_what_an_expression_reads(expression: str, found: list[tuple[str, tuple[object, ...]]]) -> None:
    read_ = list(references(expression))
    if ".map(" in expression:  # p is the expression's own
        found = [each for each in found if each[0] != "p"]
    assert read_ == found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${bucket.status.bucketName}", "bucket.status.bucketName: Bucket has no status.bucketName"),
        ("${bucket.status.location}", ""),
        ("${bucket.status.conditions[0].status}", ""),
        ("${bucket.status.conditions[0].state}", "Bucket has no status.conditions.0.state"),
        ("${bucket.status.?bucketName}", ""),
        ("${bucket.spec.nam}", "Bucket has no spec.nam"),
        ("${bucket.metadata.annotations.anything}", ""),
        ("${service.spec.clusterIP}", ""),
        ("${service.status.loadBalancer.ingress[0].hostname}", ""),
        ("${service.spec.clusterIp}", "Service has no spec.clusterIp"),
        ("${gone.spec.a}", ""),  # another rule's
    ],
)
def test_fields_of_resources(text: str, expected: str) -> None:
    graph = a_graph("{}", BUCKET, SERVICE, a_map("reader", text))
    said_ = messages("STK-KRO-004", graph)
    assert len(said_) == (1 if expected else 0)
    assert expected in "".join(said_)


def test_a_collection_is_a_list() -> None:
    graph = a_graph("{}", SERVICE, a_map("reader", "${service.map(s, s.spec.gone)} ${service.anything}"))
    graph = graph.replace("  - id: service\n", '  - id: service\n    forEach: [{zone: "${schema.spec.zones}"}]\n')
    assert said("STK-KRO-004", graph) == []
    assert said("STK-KRO-007", graph.replace("service.anything", "zone.metadata.name")) == []


def test_a_kind_without_a_schema_is_not_judged() -> None:
    graph = a_graph("{}", "other: {apiVersion: example.com/v1, kind: Widget}", a_map("reader", "${other.status.a}"))
    assert said("STK-KRO-004", graph) == []


@pytest.mark.parametrize(
    ("spec", "text", "flagged"),
    [
        ("{name: string}", "${schema.spec.name}", False),
        ("{name: string}", "${schema.spec.nam}", True),
        ("{image: {tag: string}}", "${schema.spec.image.tag}", False),
        ("{image: {tag: string}}", "${schema.spec.image.name}", True),
        ("{image: {tag: string}}", "${string(schema.spec.image)}", False),
        ("{labels: 'map[string]string'}", "${schema.spec.labels.app}", False),
        ("{free: object}", "${schema.spec.free.a.b}", False),
        ("{name: string}", "${schema.spec.name.first}", True),
        ("{name: string}", "${schema.metadata.namespace}", False),
    ],
)
def test_what_the_schema_declares(spec: str, text: str, flagged: bool) -> None:
    expected = [("data.a", "error")] if flagged else []
    assert said("STK-KRO-005", a_graph(spec, a_map("reader", text))) == expected


def test_what_nothing_reads() -> None:
    spec = "{name: string, image: {tag: string, digest: string}, size: integer | default=1}"
    graph = a_graph(spec, a_map("reader", "${schema.spec.name}-${schema.spec.image}"))
    assert said("STK-KRO-006", graph) == [("spec.schema.spec.size", "warning")]
    graph = a_graph(spec, a_map("reader", "${schema.spec.name}-${schema.spec.image.tag}"))
    assert said("STK-KRO-006", graph) == [
        ("spec.schema.spec.image.digest", "warning"),
        ("spec.schema.spec.size", "warning"),
    ]
    assert said("STK-KRO-006", a_graph(spec, a_map("reader", "${json.marshal(schema.spec)}"))) == []


def test_an_optional_field_is_read_and_need_not_be_there() -> None:
    graph = a_graph("{size: integer, mode: string}", a_map("reader", "${string(schema.spec.?size.orValue(1))}"))
    assert said("STK-KRO-006", graph) == [("spec.schema.spec.mode", "warning")]
    assert said("STK-KRO-005", graph.replace("?size", "?gone")) == []


@pytest.mark.parametrize(
    ("text", "flagged"),
    [
        ("${schema.spec.size}", False),
        ("a-${schema.spec.size}", True),
        ("${schema.spec.name}-${schema.spec.size}", True),
        ("a-${string(schema.spec.size)}", False),
        ("a-${schema.spec.name}", False),
        ("a-${schema.spec.gone}", False),
    ],
)
def test_numbers_in_texts(text: str, flagged: bool) -> None:
    graph = a_graph("{name: string, size: integer}", a_map("reader", text))
    assert said("STK-KRO-013", graph) == ([("data.a", "error")] if flagged else [])


def test_conditions_read_too() -> None:
    graph = a_graph("{enabled: boolean | default=true}", a_map("reader", "a"))
    graph = graph.replace("  - id: reader\n", '  - id: reader\n    includeWhen: ["${schema.spec.enabled}"]\n')
    assert said("STK-KRO-006", graph) == []


def test_resources_by_their_id() -> None:
    graph = a_graph("{}", BUCKET, a_map("reader", "${buckt.spec.name} ${bucket.spec.name} ${HOME}"))
    assert said("STK-KRO-007", graph) == [("data.a", "error")]


def test_a_circle_is_said_once_and_a_resource_may_not_read_itself() -> None:
    graph = a_graph("{}", a_map("a", "${b.data.a}"), a_map("b", "${c.data.a}"), a_map("c", "${a.data.a}"))
    assert messages("STK-KRO-008", graph) == ["a reads b, which needs a before: neither is made"]
    assert messages("STK-KRO-008", a_graph("{}", a_map("a", "${a.data.b}"))) == ["a reads itself: neither is made"]


@pytest.mark.parametrize(
    ("instance", "expected"),
    [
        ("{name: a, size: 3}", []),
        ("{name: a, size: '3'}", ["spec.size"]),
        ("{name: a, size: 11}", ["spec.size"]),
        ("{name: a, sise: 3}", ["spec.sise"]),
        ("{size: 3}", ["spec.name"]),
        ("{name: a, mode: slow}", ["spec.mode"]),
        ("{name: a, zones: [a, b]}", []),
        ("{name: a, zones: a}", ["spec.zones"]),
        ("{name: a, image: {tag: 1}}", ["spec.image.tag"]),
        ("{name: a, image: latest}", ["spec.image"]),
        ("{name: a, enabled: 'true'}", ["spec.enabled"]),
        ("{name: null}", ["spec.name"]),
    ],
)
def test_instances(instance: str, expected: list[str]) -> None:
    spec = (
        "{name: string | required=true, size: integer | default=1 minimum=1 maximum=10,"
        " enabled: boolean | default=true,"
        " mode: 'string | enum=\"fast,cheap\" default=\"fast\"', zones: '[]string', image: {tag: string}}"
    )
    assert said("STK-KRO-010", a_graph(spec, a_map("a", "b"), instance=instance)) == [
        (path, "error") for path in expected
    ]


@pytest.mark.parametrize(
    ("declaration", "fine"),
    [
        ("string", True),
        ("integer | default=1", True),
        ("integer | default=1.5", False),
        ('integer | default="1"', False),
        ("float | default=1.5", True),
        ("boolean | default=yes", False),
        ('string | default="a" enum="a,b"', True),
        ('string | default="c" enum="a,b"', False),
        ("map[string]integer", True),
        ("[]map[string]string", True),
        ("int", False),
        ("[]str", False),
        ("Port", False),
    ],
)
def test_declarations(declaration: str, fine: bool) -> None:
    graph = a_graph(f"{{a: '{declaration}'}}", a_map("reader", "b"))
    assert said("STK-KRO-011", graph) == ([] if fine else [("spec.schema.spec.a", "error")])


def test_a_number_is_no_declaration_and_a_type_of_ones_own_is() -> None:
    assert said("STK-KRO-011", a_graph("{a: 1}", a_map("reader", "b"))) == [("spec.schema.spec.a", "error")]
    graph = a_graph("{a: '[]Port'}", a_map("reader", "b")).replace("kind: Stack,", "kind: Stack, types: {Port: {}},")
    assert said("STK-KRO-011", graph) == []


def test_the_parts_of_a_declaration() -> None:
    found = leaf('string | required=true description="a | b" default="c"')
    assert (found.type, found.required, found.markers["default"]) == ("string", True, '"c"')
    assert text_fits("[]string", '["a"]')
    assert not value_fits("integer", True)
    assert value_fits("float", 1)


@pytest.mark.parametrize(
    ("name", "fine"),
    [("server", True), ("modelBucket2", True), ("model-bucket", False), ("Server", False), ("spec", False)],
)
def test_ids(name: str, fine: bool) -> None:
    graph = a_graph("{}", f"{name}: {{apiVersion: v1, kind: ConfigMap}}")
    assert said("STK-KRO-012", graph) == ([] if fine else [("spec.resources[0].id", "error")])


def test_versions_of_instances() -> None:
    graph = a_graph("{a: string}", a_map("reader", "b"), instance="{a: b}")
    assert said("STK-KRO-003", graph) == []
    other = graph.replace("kind: Stack,", "kind: Stack, group: example.com,")
    assert said("STK-KRO-003", other) == []  # an object of another group is not its instance
    old = graph.replace("---\napiVersion: kro.run/v1alpha1", "---\napiVersion: kro.run/v1")
    assert said("STK-KRO-003", old) == [("apiVersion", "error")]
    assert said("STK-KRO-003", "apiVersion: v1beta1\nkind: Stack\nmetadata: {name: a}\n") == [("apiVersion", "error")]
    assert said("STK-KRO-003", "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n") == []


def test_what_a_graph_defines_is_a_known_kind() -> None:
    graph = a_graph("{a: string}", a_map("reader", "b"), instance="{a: b}")
    assert said("STK-API-009", graph) == []
    assert said("STK-API-009", graph.replace("kind: Stack,", "kind: Other,")) == [("kind", "info")]


def test_the_faults_of_the_guide_are_where_they_should_be() -> None:
    report = lint(read([str(HERE / "guide_wrong")]))
    found = {(f.rule, f.object, f.path) for f in report.findings if f.rule.startswith("STK-KRO")}
    server = "Deployment ${schema.spec.modelName}"
    assert found == {
        ("STK-KRO-001", "ResourceGroup stack", "apiVersion"),
        ("STK-KRO-002", "ResourceGroup stack", "kind"),
        ("STK-KRO-003", "Stack ai/llama", "apiVersion"),
        ("STK-KRO-004", server, "spec.template.spec.containers[0].env[0].value"),
        ("STK-KRO-006", "ResourceGroup stack", "spec.schema.spec.gpuType"),
        ("STK-KRO-009", server, "spec.selector"),
        ("STK-KRO-009", server, "spec.template.metadata.labels"),
    }
