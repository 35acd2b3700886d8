"""`llm`: the models, by name, and what runs them."""

from collections.abc import Iterator, Mapping
from decimal import Decimal
from ipaddress import ip_address
from typing import Annotated, Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import AfterValidator, Discriminator, Field, StringConstraints, Tag

from stoker.spec.faults import Fault
from stoker.spec.guide import Cores, Gpu, Image, Inference
from stoker.spec.section import Count, EnvName, Expected, Name, Quantity, Seconds, Section, Usd

Task = Literal["general", "code", "vision"]
TASKS: tuple[str, ...] = get_args(Task)

AUTO = "auto"  # what a client writes as `model` to have it chosen; so no model and no alias is called so

Alias = Annotated[
    str,
    StringConstraints(pattern="^[A-Za-z0-9][A-Za-z0-9._:/-]{0,127}$"),
    Expected("a model name as clients write it, such as gpt-4o: letters, digits and . _ : / -, at most 128"),
]


def _http_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not http or https with a host")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("a URL here holds no user, password, query or fragment")
    _ = parts.port  # raises ValueError when it is no port
    return url


class ServerEngine(Section):
    """Any server that speaks the OpenAI API: vLLM, or a hosted one."""

    url: Annotated[
        str,
        StringConstraints(max_length=2048, pattern="^[!-~]+$"),
        AfterValidator(_http_url),
        Expected("an http or https URL without user, password or query, such as http://127.0.0.1:8000/v1", secret=True),
    ]
    """Base URL of the server's API, with its `/v1`; `/chat/completions` is appended to it."""

    api_key_env: EnvName | None = None
    """Environment variable that holds the server's key. The key itself never stands in this file. null sends none."""

    model: (
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=256, pattern="^[!-~]+$"),
            Expected("the server's name of the model, without spaces"),
        ]
        | None
    ) = None
    """Name of the model at the server. null sends the name it has here."""

    continues: bool = False
    """Whether it can go on with an answer that another replica has begun, as vLLM can (`continue_final_message`, and
    `continuous_usage_stats` to know how far it came). Then what a worker hands back is not generated twice."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.api_key_env and self.url.startswith("http:") and not _is_inside(urlsplit(self.url).hostname or ""):
            yield Fault(
                ("apiKeyEnv",),
                "the key would cross the network unencrypted, since url is http and its host is not a private one; "
                "write https, or leave apiKeyEnv out",
            )


def _is_inside(host: str) -> bool:
    """Whether a host is on this machine, in the cluster or in a private network, by its name alone."""
    try:
        address = ip_address(host)
    except ValueError:
        return "." not in host or host.endswith((".svc", ".local", ".internal", ".localhost"))
    return address.is_loopback or address.is_private


EMBEDDED: Literal["embedded"] = "embedded"
EMBEDDED_CONTEXT = 8192  # tokens: the positions that its model knows


def _engine_kind(value: Any) -> str | None:
    if isinstance(value, str):
        return "<embedded>"
    return "<server>" if isinstance(value, dict | ServerEngine) else None


Engine = Annotated[
    Annotated[Literal["embedded"], Tag("<embedded>")] | Annotated[ServerEngine, Tag("<server>")],
    Discriminator(_engine_kind),
    Expected('"embedded", or a section with the url of a server that speaks the OpenAI API'),
]
ENGINE_TAGS = ("<embedded>", "<server>")


class Replicas(Section):
    min: Count = 1
    """Fewest replicas. 0 stops the last one when there is nothing to do; the first request then waits for a start."""

    max: Count = 1
    """Most replicas. More than `min`: they come and go with load, by the keys of `keda`."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.min > self.max:
            yield Fault(("min",), f"{self.min} is more than max ({self.max}); min must be at most max")
        if self.max == 0:
            yield Fault(("max",), "0 never serves a request; must be at least 1, or take the model out of llm.models")


class Limits(Section):
    context_tokens: Annotated[int, Field(ge=64, le=10_000_000)] = 2048
    """Tokens of prompt and answer together that a request may hold. 2048 suits the embedded engine, whose cache takes
    memory in proportion; 8192 is the most that it holds."""

    max_output_tokens: Annotated[int, Field(ge=1, le=10_000_000)] = 512
    """Tokens that an answer may have at most, and has when the request does not say: the bound on what one costs."""

    prompt_overhead_tokens: Annotated[int, Field(ge=0, le=100_000)] | None = None
    """Tokens that the engine's chat template may add to what a request says, beside 8 for each message. Part of the
    bound on what one costs. null takes 2 for the embedded engine and 64 for a server."""

    image_tokens: Annotated[int, Field(ge=1, le=100_000)] | None = None
    """Tokens that one image may count as. Part of the bound on what a request costs. null takes 16 for the embedded
    engine and 1024 for a server."""

    concurrency: Annotated[int, Field(ge=1, le=4096)] = 8
    """Requests that one replica runs at once. More raise tokens per second until memory is full, and slow each one."""

    timeout_seconds: Seconds = 120.0
    """Seconds that one request may run on the engine before it is ended."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.max_output_tokens >= self.context_tokens:
            yield Fault(
                ("maxOutputTokens",),
                f"{self.max_output_tokens} leaves no room for a prompt; must be less than contextTokens "
                f"({self.context_tokens})",
            )


class Prices(Section):
    """All three or none: a price that was forgotten would be billed as somebody's example."""

    input_usd_per_million_tokens: Usd
    """US dollars for a million tokens of prompt."""

    cached_input_usd_per_million_tokens: Usd
    """US dollars for a million tokens of prompt that the engine still had in its cache."""

    output_usd_per_million_tokens: Usd
    """US dollars for a million tokens of answer."""


EXAMPLE_PRICES = Prices(
    input_usd_per_million_tokens=Decimal("0.10"),
    cached_input_usd_per_million_tokens=Decimal("0.05"),
    output_usd_per_million_tokens=Decimal("0.40"),
)


_SAID_BY_KEYS = {
    "--model": "weights",
    "--port": "the platform, whose probes and workers ask port 8000,",
    "--host": "the platform, whose probes and workers ask the pod's address,",
    "--api-key": "the platform's secret",
    "--served-model-name": "the model's name in llm.models",
    "--tensor-parallel-size": "gpu.count",
    "-tp": "gpu.count",
    "--pipeline-parallel-size": "nodes",
    "-pp": "nodes",
    "--max-model-len": "limits.contextTokens",
    "--max-num-seqs": "limits.concurrency",
}
"""Arguments of vLLM that follow from the spec: another value would disagree with probes, requests or budgets."""


class Serving(Section):
    """How a model with the embedded engine is served in the cluster, where vLLM takes its place. What is null is as
    `llm.inference` says."""

    weights: (
        Annotated[
            str,
            StringConstraints(pattern=r"^(s3://)?[A-Za-z0-9][A-Za-z0-9._/-]{1,255}$"),
            Expected("a model of the Hugging Face hub, such as Qwen/Qwen3-8B, or an s3:// URL"),
        ]
        | None
    ) = None
    """The model's weights. null: an open model of 7 or 8 billion parameters for its task."""

    image: Image | None = None
    """Container image of the inference server."""

    gpu: Gpu | None = None
    """GPU of one replica."""

    cpu: Cores | None = None
    """Processor cores that one replica requests."""

    memory: Quantity | None = None
    """Memory that one replica requests."""

    limits: Limits | None = None
    """What one request, and one replica, may take in the cluster, where vLLM holds more than the embedded engine. null:
    the model's own limits."""

    nodes: Annotated[int, Field(ge=1, le=16)] = 1
    """Nodes of one replica. More than 1 is a LeaderWorkerSet, with tensor parallelism on each node and pipeline
    parallelism over them."""

    node_pool: Name | None = None
    """Pool of `karpenter.nodePools` that it runs on. null: the first that is for inference."""

    args: Annotated[
        tuple[Annotated[str, StringConstraints(min_length=1, max_length=512)], ...], Field(strict=False, max_length=100)
    ] = ()
    """Further arguments for the inference server, such as --quantization=fp8."""

    def broken_rules(self) -> Iterator[Fault]:
        for index, argument in enumerate(self.args):
            key = _SAID_BY_KEYS.get(argument.partition("=")[0].replace("_", "-"))
            if key is not None:
                yield Fault(("args", index), f"{argument} is what {key} says; write it there")


class Model(Section):
    task: Task = "general"
    """What it is for, which decides what `model: auto` sends to it. Unwritten, it is the model's name where that is
    one of the three, and general otherwise."""

    engine: Engine = EMBEDDED
    """What runs it: "embedded" (the small engine that comes with Stoker), or a server that speaks the OpenAI API."""

    weights: (
        Annotated[
            str,
            StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f]+$"),
            Expected("models:NAME, as `stoker register` fills it, or a folder of weights"),
        ]
        | None
    ) = None
    """Weights that the embedded engine loads here: models:NAME, the version that `stoker register` has put into service
    as NAME; models:NAME@DIGEST, that version; or a folder or place in S3, of weights or of a model that was published
    there. null: those that come with Stoker. In the cluster `serving.weights` says it."""

    aliases: Annotated[tuple[Alias, ...], Field(strict=False, max_length=100)] = ()
    """Other names under which clients may ask for it, such as gpt-4o."""

    replicas: Replicas | None = None
    """How many run, here and in the cluster. null means one here, and `llm.inference` in the cluster."""

    serving: Serving = Serving()
    """How it is served in the cluster."""

    limits: Limits = Limits()
    """What one request, and one replica, may take."""

    prices: Prices = EXAMPLE_PRICES
    """What its tokens cost a tenant. The defaults are examples, so that cost can be seen; write your own."""

    fallback: Name | None = None
    """Model that answers, at its own prices, while no replica of this one is up; full is not down. null: requests wait
    for a replica, in the queue."""

    def broken_rules(self) -> Iterator[Fault]:
        if self.engine == EMBEDDED and self.limits.context_tokens > EMBEDDED_CONTEXT:
            yield Fault(
                ("limits", "contextTokens"),
                f"{self.limits.context_tokens} is more than the embedded engine can hold; must be at most "
                f"{EMBEDDED_CONTEXT} (a server named by engine.url may hold more)",
            )
        if self.weights is not None and self.engine != EMBEDDED:
            yield Fault(
                ("weights",),
                f"{self.weights} is for the embedded engine, and engine is a server, which loads its own; take it out",
            )
        if self.fallback is not None and self.replicas is not None and self.replicas.min == 0:
            yield Fault(
                ("fallback",),
                "with replicas.min 0 the other model would answer everything, so that this one never starts; write "
                "replicas.min 1, or leave fallback out",
            )

    @property
    def image_tokens(self) -> int:
        """Tokens that one image may count as at most, whether or not that was written."""
        said = self.limits.image_tokens
        return said if said is not None else _IMAGE_TOKENS[self.engine == EMBEDDED]

    @property
    def prompt_overhead_tokens(self) -> int:
        """Tokens that the chat template adds at most, whether or not that was written."""
        said = self.limits.prompt_overhead_tokens
        return said if said is not None else _OVERHEAD_TOKENS[self.engine == EMBEDDED]


# By whether the engine is the embedded one, whose template begins with one mark and ends with one. A server's may begin
# with a system prompt of its own (Llama's names the date).
_OVERHEAD_TOKENS = {True: 2, False: 64}

# By whether the engine is the embedded one, which cuts every image into the same 4x4 patches. Servers differ with model
# and size of the image; 1024 covers the usual vision models at their default resolution.
_IMAGE_TOKENS = {True: 16, False: 1024}


class Llm(Section):
    models: Mapping[Name, Model] = Field(
        default={name: Model(task=name) for name in ("general", "code", "vision")}, min_length=1, max_length=1000
    )
    """The models by name. Writing this key replaces the three defaults."""

    inference: Inference = Inference()
    """What a model gets in the cluster unless it says otherwise."""

    def complete(self) -> None:
        models = {
            name: model.model_copy(update={"task": name})
            if name in TASKS and "task" not in model.model_fields_set
            else model
            for name, model in self.models.items()
        }
        self.settle("models", models)

    def broken_rules(self) -> Iterator[Fault]:
        if AUTO in self.models:
            yield Fault(("models", AUTO), f"{AUTO} asks Stoker to choose a model; give the model another name")
        taken: dict[str, str] = {}
        for name, model in self.models.items():
            for index, alias in enumerate(model.aliases):
                path = ("models", name, "aliases", index)
                if alias == AUTO:
                    yield Fault(path, f"{AUTO} asks Stoker to choose a model; choose another alias")
                elif alias in self.models:
                    yield Fault(path, f'"{alias}" is the name of a model already; choose another alias')
                elif alias in taken:
                    yield Fault(path, f'"{alias}" is an alias of {taken[alias]} already; an alias leads to one model')
                taken.setdefault(alias, name)
            yield from self._wrong_fallback(name, model)

    def _wrong_fallback(self, name: str, model: Model) -> Iterator[Fault]:
        path = ("models", name, "fallback")
        if model.fallback is None:
            return
        if model.fallback == name:
            yield Fault(path, "a model cannot stand in for itself; name another one")
        elif model.fallback not in self.models:
            yield Fault(path, f'"{model.fallback}" is not a model; the models are: {", ".join(self.models)}')
        elif model.task == "vision" != self.models[model.fallback].task:
            yield Fault(
                path,
                f'"{model.fallback}" has the task {self.models[model.fallback].task}; what stands in for a model with '
                "`task: vision` must look at images, too",
            )
