"""Where pods send traces and metrics, as environment variables that OpenTelemetry's SDKs read, Stoker's processes and
vLLM alike (https://opentelemetry.io/docs/specs/otel/protocol/exporter/).
"""

from stoker.render.facts import OTLP_SECRET
from stoker.render.objects import Object, from_secret
from stoker.render.plan import Plan

HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


def otlp_env(plan: Plan) -> list[Object]:
    """Of a process of ours; nothing where nothing is sent."""
    endpoint = plan.spec.global_.observability.otlp.endpoint
    if endpoint is None:
        return []
    return [{"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": endpoint}, *_headers(plan)]


def vllm_env(plan: Plan) -> list[Object]:
    """Without the protocol vLLM speaks gRPC (vllm/tracing.py, `get_span_exporter`)."""
    if not plan.spec.global_.observability.otlp.engines:
        return []
    said = {"OTEL_SERVICE_NAME": "stoker-engine", "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"}
    return [*({"name": name, "value": value} for name, value in said.items()), *_headers(plan)]


def vllm_args(plan: Plan) -> dict[str, str]:
    """The whole URL: vLLM hands it to OpenTelemetry's exporter as it is, which adds a path to no endpoint that it is
    given."""
    otlp = plan.spec.global_.observability.otlp
    if not otlp.engines or otlp.endpoint is None:  # the spec has no engines without one
        return {}
    return {"--otlp-traces-endpoint": f"{otlp.endpoint.rstrip('/')}/v1/traces"}


def _headers(plan: Plan) -> list[Object]:
    wants = plan.spec.global_.observability.otlp.headers_from_secret
    return [from_secret(HEADERS, OTLP_SECRET, "headers")] if wants else []
