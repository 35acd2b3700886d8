"""The run file of `stoker train`: what is tuned, on what, how, and where it is kept. The same for one machine,
TrainJob, PyTorchJob and AWS Batch.

`stoker.train` and `stoker evaluate`, `register`, `runs`, `drill spot --run` read it; `render` writes one.
"""

import re
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, StringConstraints

from stoker.spec.faults import Fault
from stoker.spec.section import Expected, Name, Section, Usd
from stoker.spec.spot import Watch

_Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
_Positive = Annotated[float, Field(gt=0, le=1e9, allow_inf_nan=False)]
_HAS_PASSWORD = re.compile(r"[^/]+://[^/?#]*:[^/?#]*@")

_Steps = Annotated[int, Field(ge=1, le=100_000_000)]

Place = Annotated[
    str,
    StringConstraints(min_length=1, max_length=1024, pattern=r"^[^\x00-\x1f]+$"),
    Expected("a path, relative to the run file, or a place in S3 such as s3://bucket/train.jsonl"),
]


def _as_list(value: object) -> object:
    return [value] if isinstance(value, str) else value


def _off(value: object) -> object:
    """To YAML 1.1 the word off is false."""
    return "off" if value is False else value


Files = Annotated[
    tuple[Place, ...],
    BeforeValidator(_as_list),
    Field(strict=False, min_length=1, max_length=1000),
    Expected("a place or a list of them"),
]


class Scratch(Section):
    """The shape of a model that begins from random weights; the keys of Hugging Face's config.json."""

    vocab_size: Annotated[int, Field(ge=272, le=1_000_000)] = 1536
    """Tokens of the vocabulary, which is learned from the data."""

    hidden_size: Annotated[int, Field(ge=8, le=65536)] = 192
    """Width of the model."""

    intermediate_size: Annotated[int, Field(ge=8, le=262144)] = 512
    """Width of the layers' inner part."""

    num_hidden_layers: Annotated[int, Field(ge=1, le=512)] = 4
    """How many layers there are."""

    num_attention_heads: Annotated[int, Field(ge=1, le=1024)] = 6
    """Heads that ask."""

    num_key_value_heads: Annotated[int, Field(ge=1, le=1024)] = 3
    """Heads that are asked; the others share them."""

    head_dim: Annotated[int, Field(ge=2, le=1024)] = 32
    """Width of a head."""

    max_position_embeddings: Annotated[int, Field(ge=16, le=10_000_000)] = 8192
    """Longest sequence, in tokens."""

    images: bool = False
    """Learn to see: a projector from image cells to soft tokens is trained with it."""


Matrix = Literal["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


class Lora(Section):
    rank: Annotated[int, Field(ge=1, le=1024)] = 16
    """Rank of the update of each matrix."""

    alpha: _Positive = 32.0
    """The update is scaled by alpha / rank."""

    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Of what goes into the update."""

    targets: Annotated[tuple[Matrix, ...], Field(strict=False, min_length=1, max_length=7)] = (
        "q_proj",
        "k_proj",
        "v_proj",
        "o_proj",
        "gate_proj",
        "up_proj",
        "down_proj",
    )
    """Which matrices of each layer get one."""


class Dpo(Section):
    beta: _Positive = 0.1
    """How far the model may move from where it began: larger is closer."""


class Dataset(Section):
    format: Literal["auto", "chat", "prompt", "text", "preference"] = "auto"
    """chat: {"messages": [...], "tools": [...]}. prompt: {"prompt", "completion"}. text: {"text"}. preference:
    {"prompt", "chosen", "rejected"}, each text or messages. auto: by the keys of each line."""

    max_length: Annotated[int, Field(ge=8, le=1_048_576)] = 1024
    """Tokens of a row: of one example at most, of several where they are packed."""

    packing: bool = True
    """Put several examples into one row. They do not see each other: attention ends, and positions begin anew, at
    each."""

    too_long: Literal["truncate", "drop", "fail"] = "truncate"
    """What is done with an example of more than maxLength tokens. It is said how many there were."""

    bad_lines: Literal["fail", "skip"] = "fail"
    """What is done when a line cannot be used. Each is said, with its number and why."""

    train_on: Literal["assistant", "all"] = "assistant"
    """Which tokens count in the loss: those that the assistant says (for prompt, the completion), or all."""

    question_weight: _Fraction = 0.0
    """Weight in the loss of the tokens that do not count. Only with trainOn assistant."""

    shuffle: bool = True
    """Another order in each epoch: a pure function of seed, epoch and index."""

    transform: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[^:]+\.py:[A-Za-z_][A-Za-z0-9_]*$"),
            Expected("a function as FILE.py:NAME"),
        ]
        | None
    ) = None
    """A function `FILE.py:NAME` that is given each example (the object of its line) and a random.Random that is a pure
    function of seed, epoch and index, and returns the example to use in that epoch."""

    workers: Annotated[int, Field(ge=0, le=64)] = 0
    """Threads that prepare batches ahead. The result does not depend on it."""


class Optimizer(Section):
    learning_rate: _Positive = 2e-4
    """At its highest."""

    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """How it falls after the warm-up."""

    warmup: _Fraction = 0.03
    """Part of all steps in which the learning rate rises from 0."""

    least_rate: _Fraction = 0.1
    """Part of learningRate that is left at the end of cosine and linear."""

    weight_decay: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """AdamW's; matrices alone decay."""

    beta1: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    """AdamW's decay of the first moment."""

    beta2: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.95
    """AdamW's decay of the second moment."""

    epsilon: _Positive = 1e-8
    """AdamW's smallest divisor."""

    clip: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = 1.0
    """Norm that gradients are cut to; 0: not cut."""


class RunBatch(Section):
    rows: Annotated[int, Field(ge=1, le=1_000_000)] = 8
    """Rows of one step, over all processes. What is learned does not depend on how many processes there are."""

    micro_rows: Annotated[int, Field(ge=1, le=4096)] = 1
    """Rows of one forward pass; the gradients of a step's passes are added up, weighted by their tokens."""

    canonical: bool = False
    """Add gradients up in one order, whatever the number of processes is, so that 1, 2, 4 and 8 of them give the same
    bits. Costs memory for a few copies of the gradients; not with parallel shard."""


class RunCheckpoints(Section):
    every_steps: _Steps | None = None
    """Steps between two checkpoints. null: by time, see everySeconds."""

    every_seconds: _Positive | None = None
    """Seconds between two. null, with everySteps null too: Young's interval of how long a save takes and how often
    machines of this kind are taken away, 30 s at least, an hour at most."""

    mode: Literal["overlapped", "async", "sync"] = "overlapped"
    """overlapped: state is copied during the next forward and backward pass, and written behind training. async: copied
    while training waits, written behind it. sync: training waits for all of it."""

    keep_last: Annotated[int, Field(ge=1, le=1000)] = 3
    """So many of the newest are kept."""

    keep_every: _Steps | None = None
    """Those whose step is a multiple of this are kept, too."""

    keep_best: Annotated[int, Field(ge=0, le=100)] = 1
    """So many with the least validation loss are kept, too."""


class RunSpot(Section):
    watch: Watch = "auto"
    """Whether each node looks for a spot notice. auto: where its metadata says that it is a spot instance. true (on):
    always. false (off): never."""

    poll_seconds: Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)] = 5.0
    """Seconds between two looks; AWS asks for 5."""

    reserve_seconds: Annotated[float, Field(ge=0, le=110, allow_inf_nan=False)] = 10.0
    """A save has to be durable so long before the machine goes."""

    grace_seconds: Annotated[float, Field(gt=0, le=120, allow_inf_nan=False)] = 105.0
    """How long a save may take from the notice on: 120 s, less 5 s until it is seen, less 10 s for the rest."""

    guarantee: Annotated[Literal["warn", "require", "off"], BeforeValidator(_off), Expected("warn, require or off")] = (
        "warn"
    )
    """What is done at the start when a save is predicted to take longer than that. require: the run does not begin."""

    on_rebalance: Literal["ignore", "save"] = "save"
    """save: a checkpoint is written when AWS recommends to rebalance, and training goes on."""


class RunPrices(Section):
    instance_type: (
        Annotated[
            str,
            StringConstraints(pattern=r"^[a-z0-9-]+\.[a-z0-9-]+$"),
            Expected("an instance type, such as g6e.xlarge"),
        ]
        | None
    ) = None
    """Of each node. null: what its metadata says, or nothing is known and time alone is told."""

    capacity: Literal["spot", "on-demand"] = "on-demand"
    """How the nodes are bought, where their metadata does not say it."""

    region: Annotated[
        str, StringConstraints(pattern=r"^[a-z]{2}(-[a-z]+)+-[0-9]$"), Expected("a region, such as us-east-1")
    ] = "us-east-1"
    """Where the nodes are, where their metadata does not say it."""

    usd_per_hour: Usd | None = None
    """Of one node, in place of the catalogue's."""


class RunBudget(Section):
    usd: Usd | None = None
    """When the nodes of the run have cost so much, it stops with a checkpoint."""

    hours: _Positive | None = None
    """The same by the clock of the run, all launches together."""


class Tracking(Section):
    tensorboard: Place | None = None
    """Folder for TensorBoard's event files. Needs the package tensorboard."""

    mlflow: str | None = None
    """URI of an MLflow server or folder. Needs the package mlflow."""

    cloudwatch: bool = False
    """Put metrics of the run into CloudWatch, namespace AgenticAI/Training. Needs stoker[aws]."""

    def broken_rules(self) -> Iterator[Fault]:
        # The run file is kept beside the checkpoints, in clear: no place for a secret.
        if self.mlflow is not None and _HAS_PASSWORD.match(self.mlflow):
            yield Fault(
                ("mlflow",),
                "a URI with a password, and run files are kept where many may read; leave it out, and set "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD in the environment",
            )


class Suite(Section):
    """One set of questions with checked answers, as JSON lines: {"messages" or "prompt", "answer", "id"}."""

    name: Name
    """Of the suite."""

    data: Place
    """JSON lines, here or in S3."""

    check: Literal["exact", "contains", "regex", "tool"] = "exact"
    """exact: the answer, white space aside. contains: it is in what was said. regex: it is found. tool: name and
    arguments of the tool call."""

    least_score: _Fraction = 0.0
    """Part that has to be right, whatever other suites say."""

    max_tokens: Annotated[int, Field(ge=1, le=65536)] = 64
    """Longest answer."""


class Evaluation(Section):
    suites: Annotated[tuple[Suite, ...], Field(strict=False, max_length=100)] = ()
    """What is asked."""

    least_score: _Fraction = 0.8
    """Mean over the suites below which nothing is registered."""

    margin: _Fraction = 0.02
    """How much worse than the base it may be, by the lower end of a 95 % interval of paired differences, and still
    pass.
    """

    contamination: Literal["refuse", "allow"] = "refuse"
    """What is done when questions of the suites are in the training data. allow: it is said, and they count; for what
    is to be known by heart, such as a table."""


class Run(Section):
    name: Name
    """Of the run: it is found by it, and its checkpoints are kept under it."""

    base: Place = "embedded"
    """Weights that are tuned: embedded (those that come with Stoker); a folder with config.json, tokenizer.json and
    *.safetensors (Llama, Qwen2, Qwen3), or the same in S3, or its name on the Hugging Face hub (Qwen/Qwen3-8B, or
    Qwen/Qwen3-8B@REVISION); scratch: a model of random weights, whose shape `scratch` says."""

    scratch: Scratch = Scratch()
    """The shape of a model that begins from random weights. Only with base scratch."""

    data: Files
    """JSON lines, here or in S3: one file, or a list of them that is read one after the other."""

    validation: Place | None = None
    """JSON lines on which the loss is measured; null: it is not."""

    validate_every: _Steps | None = None
    """Steps between two measurements; null: at the end alone."""

    checkpoints: Place | None = None
    """Folder or place in S3 of the run's checkpoints. null: runs/NAME in the state directory."""

    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Machines of the run."""

    gpus: Annotated[int, Field(ge=0, le=16)] = 0
    """Of each node, one process each; 0: on processors."""

    processes: Annotated[int, Field(ge=1, le=64)] = 1
    """Of each node, where it trains on processors."""

    threads: Annotated[int, Field(ge=1, le=512)] = 1
    """Of each process, where it trains on processors."""

    method: Literal["lora", "full"] = "lora"
    """lora: small updates beside frozen weights. full: all weights."""

    objective: Literal["sft", "dpo"] = "sft"
    """sft: say what the data says. dpo: prefer what was chosen over what was rejected."""

    epochs: Annotated[int, Field(ge=1, le=100_000)] = 1
    """Times that all data is gone through."""

    steps: _Steps | None = None
    """Steps after which it is over; null: by epochs. Both: whichever is first."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 0
    """Of all that is random: order, first weights, dropout."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """What passes are computed in; weights and moments are float32. auto: bfloat16 on GPUs that have it."""

    parallel: Literal["auto", "replicate", "shard"] = "auto"
    """replicate: each process has all weights. shard: FSDP2. auto: shard on several GPUs."""

    deterministic: bool = True
    """The same bits each time it is done again, so that a resumed run is the run that was not interrupted. On GPUs some
    operations are slower so; on processors it costs nothing."""

    compile: bool = False
    """torch.compile of each layer."""

    recompute: bool = False
    """Compute activations again in the backward pass, for less memory."""

    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.0
    """Of attention and of each layer's outputs."""

    lora: Lora = Lora()
    """The update of method lora."""

    dpo: Dpo = Dpo()
    """The loss of objective dpo."""

    dataset: Dataset = Dataset()
    """How lines become rows."""

    optimizer: Optimizer = Optimizer()
    """How weights change."""

    batch: RunBatch = RunBatch()
    """What a step is made of."""

    checkpointing: RunCheckpoints = RunCheckpoints()
    """When state is kept, and how much of it."""

    spot: RunSpot = RunSpot()
    """What is done when the machine is taken away."""

    prices: RunPrices = RunPrices()
    """What the machines cost, where they do not say it themselves."""

    budget: RunBudget = RunBudget()
    """What the run may cost."""

    tracking: Tracking = Tracking()
    """Where else its figures are shown."""

    evaluation: Evaluation = Evaluation()
    """What it is asked before it is put into service."""

    relaunches: Annotated[int, Field(ge=0, le=10_000)] = 3
    """How often `stoker train` begins again by itself after a process died. A machine that is taken away does not
    count.
    """

    register_as: Name | None = None
    """Model of platform.yaml that `stoker register` puts the result into service as; null: the run's name."""

    publish: Place | None = None
    """Folder or place in S3 below which `stoker register` publishes weights. null: models in the state directory."""

    @property
    def processes_per_node(self) -> int:
        return self.gpus or self.processes

    def broken_rules(self) -> Iterator[Fault]:
        if self.base == "scratch" and self.method == "lora":
            yield Fault(("method",), "lora, and base is scratch, a model of random weights; write full")
        if self.batch.rows % self.batch.micro_rows:
            yield Fault(
                ("batch", "microRows"),
                f"{self.batch.micro_rows} does not divide rows, which is {self.batch.rows}",
            )
        if self.batch.canonical and self.parallel == "shard":
            yield Fault(("batch", "canonical"), "true, and parallel is shard; write replicate")
        if self.objective == "dpo" and self.dataset.format not in ("auto", "preference"):
            yield Fault(("dataset", "format"), f"{self.dataset.format}, and objective is dpo; write preference")
