"""Which model answers a request. Pure and deterministic: the gateway calls it for each request, the simulator for each
of a trace. It knows nothing of replicas, budgets or HTTP.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b

from stoker.base.errors import InvalidInput, NotFound
from stoker.policy.features import RequestFeatures
from stoker.spec import AUTO, Platform

FALLBACK = "fallback"
"""The reason when another model stands in for the one that was chosen, of which no replica is up."""


@dataclass(frozen=True, slots=True)
class RoutingTable:
    """Names only. `vision`, `code`, `tools`, `long` and `hard` are where `auto` sends such requests; None when there is
    no such model. `weights`: a name to its models with their shares, of which at least one is more than 0."""

    models: tuple[str, ...]
    aliases: Mapping[str, str]
    routes: Mapping[str, str]
    default: str
    vision: str | None
    code: str | None
    tools: str | None = None
    long: str | None = None
    hard: str | None = None
    long_characters: int = 0
    weights: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Route:
    """`reason` goes into a response header: prefix, model, alias, weights, auto:image, auto:tools, auto:long,
    auto:code, auto:hard, auto:general, fallback."""

    model: str
    reason: str


def table_of(platform: Platform) -> RoutingTable:
    """Images go where the route `vision` leads, or else to the first model for vision; code likewise."""
    models, gateway = platform.llm.models, platform.gateway
    routes, auto = gateway.routes, gateway.auto
    first_for: dict[str, str] = {}
    for name, model in models.items():
        first_for.setdefault(model.task, name)
    return RoutingTable(
        models=tuple(models),
        aliases={alias: name for name, model in models.items() for alias in model.aliases},
        routes=dict(routes),
        default=gateway.default_model,
        vision=routes.get("vision", first_for.get("vision")),
        code=routes.get("code", first_for.get("code")),
        tools=auto.tools,
        long=auto.long,
        hard=auto.hard,
        long_characters=auto.long_characters,
        weights={name: dict(shares) for name, shares in gateway.weights.items()},
    )


def choose(
    prefix: str | None,
    requested: str | None,
    features: RequestFeatures,
    table: RoutingTable,
    *,
    key: str = "",
    allowed: Collection[str] | None = None,
) -> Route:
    """The model for a request that came in under `/v1/<prefix>` (None: plain `/v1`) with `requested` as its `model`.

    `key` decides between models with shares: the same key, the same model. `allowed` are the models that the caller may
    use (None: all): where there is a choice it falls on one of them, and where there is none, the caller is to be
    refused. Raises NotFound for a prefix or a model that does not exist, InvalidInput for a model that contradicts the
    prefix and for an image that no model here can look at.
    """
    if prefix is not None:
        return _by_prefix(prefix, requested, table)
    if requested is None or requested == AUTO:
        return _by_content(features, table, allowed)
    shares = table.weights.get(requested)
    if shares is not None:
        return Route(_by_share(requested, shares, key, allowed), "weights")
    return _by_name(requested, table)


def _by_prefix(prefix: str, requested: str | None, table: RoutingTable) -> Route:
    if prefix not in table.routes:
        known = ", ".join(f"/v1/{word}" for word in table.routes) or "none"
        raise NotFound(f"there is no route /v1/{_shown(prefix)}; the routes are: {known}", code="route_not_found")
    model = table.routes[prefix]
    if requested is not None and requested != AUTO:
        # A name with weights is no model of the prefix: which one it means differs from session to session.
        named = None if requested in table.weights else _by_name(requested, table).model
        if named != model:
            raise InvalidInput(
                f'the route /v1/{prefix} serves the model {model}, but the request asks for "{requested}"'
                + (f" (the model {named})" if named not in (None, requested) else "")
                + f'; leave `model` out, write "{AUTO}" or "{model}", or send it to /v1',
                param="model",
                code="model_not_on_route",
            )
    return Route(model, "prefix")


def _by_name(requested: str, table: RoutingTable) -> Route:
    if requested in table.models:
        return Route(requested, "model")
    if requested in table.aliases:
        return Route(table.aliases[requested], "alias")
    raise NotFound(
        f'there is no model "{_shown(requested)}"; the models are: {", ".join((*table.models, *table.weights))}',
        hint=f'write "{AUTO}" to have one chosen',
        code="model_not_found",
    )


def _by_share(name: str, shares: Mapping[str, int], key: str, allowed: Collection[str] | None) -> str:
    """Keys are spread evenly over the shares, in their order: who gives two models other shares moves no more keys than
    the difference. Another name spreads the same keys differently."""
    able = {
        model: share for model, share in shares.items() if share and (allowed is None or model in allowed)
    } or shares
    digest = blake2b(f"{name}\0{key}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    point = int.from_bytes(digest) * sum(able.values()) >> 64
    chosen = ""
    for model, share in able.items():
        if not share:
            continue
        chosen = model
        if point < share:
            break
        point -= share
    return chosen


def _by_content(features: RequestFeatures, table: RoutingTable, allowed: Collection[str] | None) -> Route:
    """What a model must be able to do comes first (images, tools, length), then what it is good at (code, hard)."""
    if features.has_image:
        if table.vision is None:
            raise InvalidInput(
                "the request holds an image, and no model here looks at images; "
                f"take it out, or name one of the models: {', '.join(table.models)}",
                param="messages",
                code="images_not_supported",
            )
        return Route(table.vision, "auto:image")
    for holds, model, reason in (
        (features.has_tools, table.tools, "auto:tools"),
        (features.characters > table.long_characters, table.long, "auto:long"),
        (features.has_code, table.code, "auto:code"),
        (features.is_hard, table.hard, "auto:hard"),
    ):
        if holds and model is not None and (allowed is None or model in allowed):
            return Route(model, reason)
    return Route(table.default, "auto:general")


def _shown(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."
