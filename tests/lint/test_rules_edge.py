"""The rules about the way in: what they flag, where, how badly, and what they let be."""

from pathlib import Path

import pytest

from stoker.lint.config import Config
from stoker.lint.fixing import fix
from stoker.lint.rules import edge
from stoker.lint.run import lint
from stoker.manifests.reading import read, read_text

HERE = Path(__file__).parent
ALB = "alb.ingress.kubernetes.io/"

Found = list[tuple[str, str]]


def said(text: str, rule: str, config: Config | None = None) -> Found:
    """Severity and path of each finding of one rule."""
    report = lint(read_text(text), config)
    return [(finding.severity.value, finding.path) for finding in report.findings if finding.rule == rule]


def hints(text: str, rule: str) -> list[str]:
    return [finding.hint for finding in lint(read_text(text)).findings if finding.rule == rule]


def fixed(text: str) -> str:
    """The text after `--fix` by the rules of this area alone."""
    done = fix(read_text(text, "a.yaml"), Config(only=frozenset(rule.id for rule in edge.RULES)))
    return done.texts.get("a.yaml", text)


def ingress(annotations: str = "", *, path: str = "/v1", service: str = "chat", port: str = "number: 8080") -> str:
    """An Ingress of an ALB; annotations as lines of YAML without their prefix."""
    lines = [f"    {ALB}{line}" if line[:1].isalpha() else f"    {line}" for line in annotations.splitlines()]
    return "\n".join(
        [
            "apiVersion: networking.k8s.io/v1",
            "kind: Ingress",
            "metadata:",
            "  name: edge",
            "  namespace: ai",
            *(["  annotations:", *lines] if lines else []),
            "spec:",
            "  ingressClassName: alb",
            "  rules:",
            "  - http:",
            "      paths:",
            f"      - {{path: {path}, pathType: Prefix, backend: {{service: {{name: {service}, port: {{{port}}}}}}}}}",
            "",
        ]
    )


def service(namespace: str = "ai", *, more: str = "") -> str:
    return f"""\
---
apiVersion: v1
kind: Service
metadata: {{name: chat, namespace: {namespace}}}
spec:
  {more}
  selector: {{app: chat}}
  ports: [{{name: http, port: 80, targetPort: 8080}}]
"""


def pods(more: str = "", container: str = "") -> str:
    return f"""\
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: chat, namespace: ai}}
spec:
  selector: {{matchLabels: {{app: chat}}}}
  template:
    metadata: {{labels: {{app: chat}}}}
    spec:
      {more}
      containers:
      - {{name: server, image: "chat:v1", {container}}}
"""


def annotation(suffix: str) -> str:
    return f'metadata.annotations."{ALB}{suffix}"'


BACKEND = "spec.rules[0].http.paths[0].backend.service"


# -- backends --


def test_a_service_may_be_said_to_be_in_the_cluster_but_not_in_another_namespace() -> None:
    another = service().replace("name: chat", "name: other")
    assert said(ingress(), "STK-EDGE-001") == [("info", f"{BACKEND}.name")]  # perhaps in another file
    assert said(ingress() + another, "STK-EDGE-001") == [("warning", f"{BACKEND}.name")]
    assert said(ingress(), "STK-EDGE-001", Config(exists=("Service ai/chat",))) == []
    assert said(ingress() + service("test"), "STK-EDGE-001") == [("warning", f"{BACKEND}.name")]
    assert said(ingress() + service(), "STK-EDGE-001") == []


@pytest.mark.parametrize(
    ("port", "expected"),
    [
        ("number: 80", []),
        ("name: http", []),
        ("number: 8080", [("error", f"{BACKEND}.port.number")]),  # that of the container
        ("name: web", [("error", f"{BACKEND}.port.name")]),
        ("name: use-annotation", []),
    ],
)
def test_the_port_is_the_services(port: str, expected: Found) -> None:
    assert said(ingress(port=port) + service(), "STK-EDGE-002") == expected


@pytest.mark.parametrize(
    ("annotations", "path", "is_flagged"),
    [
        ("healthcheck-path: /health", "/models/chat", True),
        ("healthcheck-path: /health", "/models/chat/*", True),
        ("healthcheck-path: /models/chat/health", "/models/chat", False),
        ("healthcheck-path: /health", "/v1/chat", False),  # a path of model servers themselves
        ("healthcheck-path: /health", "/", False),
        ("healthcheck-path: /health", "/v1", False),
        ("healthcheck-path: /health\ntransforms.chat: '[]'", "/models/chat", False),
    ],
)
def test_a_path_that_names_its_service_is_perhaps_not_known_there(
    annotations: str, path: str, is_flagged: bool
) -> None:
    assert bool(said(ingress(annotations, path=path), "STK-EDGE-003")) is is_flagged


def test_the_probe_of_the_pods_counts_where_the_health_check_has_no_path() -> None:
    probe = "readinessProbe: {httpGet: {path: /ready, port: 8080}}"
    text = ingress(path="/models/chat") + service() + pods(container=probe)
    assert said(text, "STK-EDGE-003") == [("info", "spec.rules[0].http.paths[0].path")]


def test_two_rules_for_one_path() -> None:
    again = "      - {path: /v1, pathType: Prefix, backend: {service: {name: code, port: {number: 80}}}}\n"
    other_type = again.replace("Prefix", "Exact")
    assert said(ingress() + again, "STK-EDGE-021") == [("warning", "spec.rules[0].http.paths[1].path")]
    assert said(ingress() + other_type, "STK-EDGE-021") == []


# -- annotations --


def test_a_misspelt_annotation_and_one_that_goes_on_with_a_name() -> None:
    text = ingress("heathcheck-path: /health\nactions.weighted: '{}'\nsomething-new: a")
    assert said(text, "STK-EDGE-005") == [
        ("warning", annotation("heathcheck-path")),
        ("info", annotation("something-new")),
    ]
    assert hints(text, "STK-EDGE-005")[0] == f"{ALB}healthcheck-path"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ("listen-ports: '[{\"HTTP\": 80}, {\"HTTPS\": 443}]'\nssl-redirect: '443'", []),
        ("listen-ports: '[{\"HTTP\": 80, \"HTTPS\": 443}]'\nssl-redirect: '443'", []),
        ("listen-ports: '[{\"HTTP\": 80}, {\"HTTPS\": 8443}]'\nssl-redirect: '443'", ["error"]),
        ("ssl-redirect: '443'", ["error"]),
        ("certificate-arn: a\nssl-redirect: '443'", ["warning"]),  # HTTPS alone: nothing is redirected
        ("ssl-redirect: 'true'", ["error"]),
        ("group.name: shared\nssl-redirect: '443'", []),  # another of the group may open it
    ],
)
def test_where_a_redirect_goes(annotations: str, expected: list[str]) -> None:
    found = said(ingress(annotations), "STK-EDGE-006")
    assert found == [(severity, annotation("ssl-redirect")) for severity in expected]


def test_a_certificate_is_found_by_the_host() -> None:
    https = "listen-ports: '[{\"HTTPS\": 443}]'"
    with_host = ingress(https).replace("  - http:", "  - host: api.example.com\n    http:")
    assert said(ingress(https), "STK-EDGE-007") == [("error", annotation("listen-ports"))]
    assert said(ingress(f"{https}\ncertificate-arn: a"), "STK-EDGE-007") == []
    assert said(with_host, "STK-EDGE-007") == []


def test_a_firewall_is_missed_on_the_internet_alone() -> None:
    assert said(ingress("scheme: internet-facing"), "STK-EDGE-008") == [("info", annotation("scheme"))]
    assert said(ingress("scheme: internal"), "STK-EDGE-008") == []
    assert said(ingress("scheme: internet-facing\nwafv2-acl-name: edge"), "STK-EDGE-008") == []


def test_nodes_as_targets_need_a_node_port() -> None:
    text = ingress("target-type: instance") + service()
    assert said(text, "STK-EDGE-009") == [("error", annotation("target-type"))]
    assert fixed(text) == text.replace("instance", "ip")
    assert said(ingress() + service(), "STK-EDGE-009") == [("info", annotation("target-type"))]
    assert said(ingress("target-type: instance") + service(more="type: NodePort"), "STK-EDGE-009") == []
    assert said(ingress("target-type: ip") + service(), "STK-EDGE-009") == []


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ("healthcheck-timeout-seconds: '14'", []),
        ("healthcheck-timeout-seconds: '15'", ["healthcheck-timeout-seconds"]),  # the interval is 15 by default
        ("healthcheck-interval-seconds: '5'", ["healthcheck-interval-seconds"]),  # and the timeout 5
        ("healthcheck-interval-seconds: '30'\nhealthcheck-timeout-seconds: '20'", []),
        ("healthcheck-interval-seconds: 15s", ["healthcheck-interval-seconds"]),
        ("healthy-threshold-count: '1'", ["healthy-threshold-count"]),
    ],
)
def test_numbers_of_a_health_check(annotations: str, expected: list[str]) -> None:
    assert said(ingress(annotations), "STK-EDGE-010") == [("error", annotation(each)) for each in expected]


def test_the_pods_live_as_long_as_the_load_balancer_waits() -> None:
    waits = ingress("target-group-attributes: deregistration_delay.timeout_seconds=%s") + service()
    grace = "terminationGracePeriodSeconds: 60"
    path = [("warning", "spec.template.spec.terminationGracePeriodSeconds")]
    assert said(waits % 30 + pods(), "STK-EDGE-011") == []
    assert said(waits % 31 + pods(), "STK-EDGE-011") == path
    assert said(waits % 60 + pods(grace), "STK-EDGE-011") == []
    assert said(waits % 61 + pods(grace), "STK-EDGE-011") == path


def test_a_minute_without_a_byte_is_short_for_models_alone() -> None:
    gpu = "resources: {limits: {nvidia.com/gpu: 1}}"
    assert said(ingress() + service() + pods(container=gpu), "STK-EDGE-012") == [
        ("info", annotation("load-balancer-attributes"))
    ]
    longer = ingress("load-balancer-attributes: idle_timeout.timeout_seconds=600")
    assert said(longer + service() + pods(container=gpu), "STK-EDGE-012") == []
    assert said(ingress() + service() + pods(), "STK-EDGE-012") == []


LINES = """\
load-balancer-attributes: |
  idle_timeout.timeout_seconds=600,
  access_logs.s3.enabled=true"""


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (LINES, []),
        ("load-balancer-attributes: idle_timeout.timeout_seconds=600,", ["error"]),
        ("load-balancer-attributes: deregistration_delay.timeout_seconds=30", ["error"]),  # of the target group
        ("target-group-attributes: deregistration_delay.timeout_second=30", ["warning"]),
        ("target-group-attributes: something.quite.new=30", []),
        ('listen-ports: \'[{"HTTP": 80}, {"HTTPS": 443}\'', ["error"]),
        ("listen-ports: '[{\"TCP\": 80}]'", ["error"]),
        ("listen-ports: '443'", ["error"]),
    ],
)
def test_what_the_controller_can_not_read(annotations: str, expected: list[str]) -> None:
    assert [severity for severity, _ in said(ingress(annotations), "STK-EDGE-013")] == expected


def test_what_an_ingress_of_another_controller_says_is_not_judged() -> None:
    text = ingress("healthcheck-timeout-seconds: '99'").replace("ingressClassName: alb", "ingressClassName: nginx")
    assert said(text, "STK-EDGE-010") == []


# -- classes --


def test_a_class_is_named_once() -> None:
    without = ingress().replace("  ingressClassName: alb\n", "")
    twice = ingress("kubernetes.io/ingress.class: alb").replace(f"{ALB}kubernetes.io", "kubernetes.io")
    default = """\
---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {name: alb, annotations: {ingressclass.kubernetes.io/is-default-class: "true"}}
spec: {controller: ingress.k8s.aws/alb}
"""
    assert said(without, "STK-EDGE-020") == [("info", "spec.ingressClassName")]
    assert said(without + default, "STK-EDGE-020") == []
    assert said(twice, "STK-EDGE-020") == [("error", 'metadata.annotations."kubernetes.io/ingress.class"')]


def test_a_service_that_a_controller_is_named_for_is_not_in_doubt() -> None:
    balanced = service(more="type: LoadBalancer").replace(
        "namespace: ai}", "namespace: ai, annotations: {service.beta.kubernetes.io/aws-load-balancer-type: %s}}"
    )
    classed = (balanced % "nlb").replace("LoadBalancer", "LoadBalancer\n  loadBalancerClass: service.k8s.aws/nlb")
    assert said(balanced % "nlb", "STK-EDGE-019") == [("info", "spec.loadBalancerClass")]
    assert said(balanced % "external", "STK-EDGE-019") == []
    assert said(classed, "STK-EDGE-019") == []
    assert said(service(more="type: LoadBalancer"), "STK-EDGE-019") == []


def test_the_controllers_first_version_and_its_name() -> None:
    old = "# set up by the alb-ingress-controller\n" + ingress()
    image = pods().replace("chat:v1", "docker.io/amazon/aws-alb-ingress-controller:v1.1.9")
    assert said(old, "STK-EDGE-004") == [("info", "")]
    assert said(image, "STK-EDGE-004") == [("warning", "spec.template.spec.containers[0].image")]


# -- Gateway API --


def gateway(listener: str = "") -> str:
    return f"""\
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: edge, namespace: infra}}
spec:
  gatewayClassName: alb
  listeners: [{{name: http, port: 80, protocol: HTTP{listener}}}]
"""


def route(parent: str = "{name: edge, namespace: infra}", backend: str = "{name: chat, port: 80}") -> str:
    return f"""\
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: chat, namespace: ai}}
spec:
  parentRefs: [{parent}]
  rules: [{{backendRefs: [{backend}]}}]
"""


def test_a_gateway_takes_the_routes_that_its_listeners_let_in() -> None:
    all_in = gateway(", allowedRoutes: {namespaces: {from: All}}")
    section = route("{name: edge, namespace: infra, sectionName: https}")
    assert said(route() + all_in, "STK-EDGE-014") == []
    assert said(route() + gateway(), "STK-EDGE-014") == [("error", "spec.parentRefs[0].namespace")]
    assert said(section + all_in, "STK-EDGE-014") == [("error", "spec.parentRefs[0].sectionName")]
    assert said(route("{name: edge}") + all_in, "STK-EDGE-014") == [("warning", "spec.parentRefs[0].name")]
    assert hints(route("{name: edge}") + all_in, "STK-EDGE-014") == ["namespace: infra"]


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("{name: chat, port: 80}", []),
        ("{name: chat}", [("error", "port")]),
        ("{name: chat, port: 8080}", [("error", "port")]),
        ("{name: code, port: 80}", [("warning", "name")]),
        ("{name: chat, kind: InferencePool}", [("error", "group")]),
        ("{name: chat, kind: InferencePool, group: inference.networking.k8s.io}", [("info", "name")]),
        ("{name: chat, kind: Bucket, group: example.com}", []),
    ],
)
def test_backends_of_a_route(backend: str, expected: Found) -> None:
    start = "spec.rules[0].backendRefs[0]."
    found = said(service() + route(backend=backend), "STK-EDGE-015")
    assert found == [(severity, start + path) for severity, path in expected]


def test_a_backend_in_another_namespace_needs_a_grant_there() -> None:
    text = service("test") + route(backend="{name: chat, namespace: test, port: 80}")
    grant = """\
---
apiVersion: gateway.networking.k8s.io/v1beta1
kind: ReferenceGrant
metadata: {name: from-ai, namespace: test}
spec:
  from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: ai}]
  to: [{group: "", kind: Service}]
"""
    assert said(text, "STK-EDGE-015") == [("warning", "spec.rules[0].backendRefs[0].namespace")]
    assert said(text + grant, "STK-EDGE-015") == []


def test_an_inference_pool_has_pods_and_a_picker_with_its_port() -> None:
    pool = """\
apiVersion: inference.networking.k8s.io/v1
kind: InferencePool
metadata: {name: chat, namespace: ai}
spec:
  selector: {matchLabels: {app: chat}}
  targetPorts: [{number: 8000}]
  endpointPickerRef: {name: chat, port: {number: 80}}
"""
    ports = "ports: [{containerPort: %s}]"
    assert said(pool + service() + pods(container=ports % 8000), "STK-EDGE-017") == []
    assert said(pool + service() + pods(), "STK-EDGE-017") == []  # containers need not list their ports
    assert said(pool + service() + pods(container=ports % 9000), "STK-EDGE-017") == [
        ("warning", "spec.targetPorts[0].number")
    ]
    assert said(pool, "STK-EDGE-017") == [
        ("warning", "spec.selector.matchLabels"),
        ("warning", "spec.endpointPickerRef.name"),
    ]


def test_a_model_of_the_inference_extension_is_said_to_be_gone_once() -> None:
    text = """\
apiVersion: inference.networking.x-k8s.io/v1alpha2
kind: InferenceModel
metadata: {name: chat}
spec: {modelName: chat, poolRef: {name: chat}}
"""
    found = [(finding.rule, finding.path) for finding in lint(read_text(text)).findings]
    assert found == [("STK-EDGE-016", "kind")]


def test_a_gateway_class_is_in_sight_in_the_cluster_or_brought_along() -> None:
    assert said(gateway(), "STK-EDGE-018") == [("info", "spec.gatewayClassName")]
    assert said(gateway(), "STK-EDGE-018", Config(exists=("GatewayClass alb",))) == []
    assert said(gateway().replace(": alb", ": istio"), "STK-EDGE-018") == []


# -- the guide --


def test_the_guides_faults_are_found_at_their_places() -> None:
    report = lint(read([str(HERE / "guide_wrong")]))
    found = {(f.rule[-3:], f.object, f.path) for f in report.findings if f.rule.startswith("STK-EDGE-")}
    paths = [f"spec.rules[{i}].http.paths[0]" for i in range(2)]
    assert found == {
        *(("001", "Ingress ai/edge", f"{path}.backend.service.name") for path in paths),
        *(("003", "Ingress ai/edge", f"{path}.path") for path in paths),
        ("004", "Ingress ai/edge", ""),
    }


def test_the_corrected_forms_have_one_thing_that_is_worth_knowing() -> None:
    report = lint(read([str(HERE / "guide_right")]))
    found = [(f.rule, f.severity.value, f.path) for f in report.findings if f.rule.startswith("STK-EDGE-")]
    assert found == [("STK-EDGE-003", "info", "spec.rules[0].http.paths[0].path")]
