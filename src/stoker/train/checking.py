"""`stoker train --check`: all is read that a run would read, what it would do is said, and nothing is begun. No torch.

The data is encoded as for training, so bad lines are found here; the place of checkpoints is measured by writing to it.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.nn import config as configs
from stoker.nn import weights_files
from stoker.nn.config import ModelConfig
from stoker.registry.runs import RunStore
from stoker.registry.stores import Store
from stoker.spec.run import Run
from stoker.train import planning, record, runs
from stoker.train.bases import base_folder
from stoker.train.encoding import Encoder, check_vocabulary, encoder_of
from stoker.train.nodes import node_of
from stoker.train.planning import Guarantee, Option, Size
from stoker.train.reports import Report
from stoker.train.source import once, open_source

_DEVICES = Path("/dev")
_LAST_STEPS = 50
_MOST_CONFIG_BYTES = 1 << 20


@dataclass(frozen=True)
class Checked:
    """What the run would do. `resumes`: the step and name of the checkpoint that it would go on from. `step_s`: of its
    latest steps; None: it has done none. `guarantee` None: guarantee is off. `options`: ways to buy it."""

    store_url: str
    report: Report
    steps: int
    tokens: int
    size: Size
    resumes: tuple[int, str] | None
    step_s: float | None
    guarantee: Guarantee | None
    options: list[Option]

    @property
    def may_begin(self) -> bool:
        return self.guarantee is None or self.guarantee.holds


def check(
    run: Run, run_file: Path, *, state: Path, environ: Mapping[str, str] = os.environ, tell: Callable[[str], None]
) -> Checked:
    """Raises what the run itself would raise at its start: InvalidInput, Conflict, Unavailable. What depends on the
    machine (GPUs, its price) is told, since the file may be for another one."""
    here = run_file.absolute().parent
    store = runs.look(run, run_file, state, environ)
    cache = runs.folder_of(state, run.name) / "cache"
    folder = base_folder(run, here=here, cache=cache)
    size = planning.size_of(_config(folder), run)
    encoder = encoder_of(folder)
    _fit(run, folder, encoder)
    _tell_of_the_machine(run, environ, tell)
    source = open_source(run, run.data, encoder, here=here, tell=tell, cache=cache)
    if run.validation is not None:
        open_source(once(run), [run.validation], encoder, here=here, tell=tell, cache=cache)
    step_s = _step_s(store)
    guarantee, save_s = None, planning.LEAST_SAVE_S
    if run.spot.guarantee != "off":
        bytes_per_s, fixed_s = planning.measure(store)
        guarantee = planning.guarantee(run, size, bytes_per_s=bytes_per_s, fixed_s=fixed_s, step_s=step_s or 0.0)
        save_s = planning.save_seconds(
            size.checkpoint_bytes, bytes_per_s=bytes_per_s, writers=run.nodes, fixed_s=fixed_s
        )
    tokens = min(source.steps * source.step(0).tokens, run.epochs * source.report.tokens)
    return Checked(
        store_url=store.url,
        report=source.report,
        steps=source.steps,
        tokens=tokens,
        size=size,
        resumes=_newest(store, run),
        step_s=step_s,
        guarantee=guarantee,
        options=planning.options(run, size, tokens, save_s=save_s, regions=(run.prices.region,)),
    )


def _config(folder: Path) -> dict[str, Any]:
    try:
        found = json.loads((folder / "config.json").read_bytes()[:_MOST_CONFIG_BYTES])
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{folder}/config.json cannot be read: {error}", param="base") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{folder}/config.json is no object", param="base")
    return found


def _fit(run: Run, folder: Path, encoder: Encoder) -> None:
    """The tokenizer and the headers of the weights are of what config.json says. Raises InvalidInput as
    `model.build`."""
    config = configs.load(folder)
    check_vocabulary(encoder, config.vocab_size, folder)
    if run.base == "scratch":
        return
    found = weights_files.shapes(folder)
    for name, shape in _matrices(config):
        if name not in found:
            raise InvalidInput(f"{folder}: the weights lack {name}", param="base")
        if found[name] != shape:
            raise InvalidInput(f"tensor {name} has shape {found[name]}; config.json says {shape}", param="base")


def _matrices(config: ModelConfig) -> Iterator[tuple[str, tuple[int, int]]]:
    hidden, between = config.hidden_size, config.intermediate_size
    of_a_layer = {
        "self_attn.q_proj": (config.query_size, hidden),
        "self_attn.k_proj": (config.kv_size, hidden),
        "self_attn.v_proj": (config.kv_size, hidden),
        "self_attn.o_proj": (hidden, config.query_size),
        "mlp.gate_proj": (between, hidden),
        "mlp.up_proj": (between, hidden),
        "mlp.down_proj": (hidden, between),
    }
    yield "model.embed_tokens.weight", (config.vocab_size, hidden)
    for layer in range(config.num_hidden_layers):
        yield from ((f"model.layers.{layer}.{name}.weight", shape) for name, shape in of_a_layer.items())


def _tell_of_the_machine(run: Run, environ: Mapping[str, str], tell: Callable[[str], None]) -> None:
    there = len(list(_DEVICES.glob("nvidia[0-9]*")))
    if run.gpus > there:
        tell(f"warning: gpus is {run.gpus}, and this machine has {there or 'none'}: on this one the run is refused")
    if run.budget.usd is not None and node_of(run, None, environ)["usd_per_hour"] is None:
        tell(
            "warning: budget.usd is set, and prices does not say what a machine costs: the run is refused where its "
            "metadata does not say it either; set prices.instanceType or prices.usdPerHour, or limit budget.hours"
        )


def _newest(store: Store, run: Run) -> tuple[int, str] | None:
    found = RunStore(store, run.name).head()
    if found is None or not found[0].entries:
        return None
    entry = found[0].entries[-1]
    return entry.step, entry.name


def _step_s(store: Store) -> float | None:
    seconds = list(record.summary(record.read(store), now=0.0).step_seconds.values())
    return median(seconds[-_LAST_STEPS:]) if seconds else None
