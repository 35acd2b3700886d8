"""One process of a run, from its environment to the loop: open, claim, make ready, go on, train.

What is opened first is what can be refused: settings, weights, data. Only then is the run claimed, so that a wrong
file does not fence off a launch that works.
"""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from stoker.base.clock import Clock
from stoker.base.errors import InvalidInput
from stoker.registry.heads import Keep
from stoker.registry.runs import Crash, Lease, RunStore
from stoker.registry.stores import Store
from stoker.spec.run import Run
from stoker.train import exits, gradients, identity, runs
from stoker.train.budget import BudgetWatch, cannot_begin
from stoker.train.interruption import Interruption, Why, Wish
from stoker.train.interval import Interval
from stoker.train.launching import TERMINAL
from stoker.train.live import Live
from stoker.train.loop import Loop, Parts, nowhere
from stoker.train.losses import Loss
from stoker.train.metrics import exposition
from stoker.train.model import Model, base_folder, build, computing
from stoker.train.nodes import Instance, interruptions_per_hour, nodes_of, process_start
from stoker.train.optimizer import Adam
from stoker.train.planning import guarantee, measure, seen, size_of
from stoker.train.preparing import is_sharded_in, prepared
from stoker.train.progress import Progress
from stoker.train.pulse import Pulse
from stoker.train.record import Save, Writer, follow, summary
from stoker.train.restoring import Restored, newest
from stoker.train.saving import Saver
from stoker.train.source import Source, once, open_source
from stoker.train.state import Held, held, share, staging_of
from stoker.train.tracking import Onlookers, trackers
from stoker.train.world import Gone, World, settle_numerics

STATES = {
    exits.COMPLETED: "completed",
    exits.PREEMPTED: "preempted",
    exits.BUDGET_SPENT: "budget",
    exits.FENCED: "fenced",
}
"""What a launch's record says that it ended as; for all other codes it failed."""


@dataclass(frozen=True)
class _Opened:
    folder: Path
    """Of the run, on this machine."""
    plain: Store
    store: RunStore
    model: Model
    source: Source
    validation: Source | None


@dataclass(frozen=True)
class _Claimed:
    """`lease`: process 0's."""

    lease: Lease | None
    epoch: int
    record: Writer
    nodes: list[dict[str, Any]]


@dataclass(frozen=True)
class _Ready:
    module: nn.Module
    loss: Loss
    adam: Adam
    parameters: list[nn.Parameter]
    tensors: list[Held]
    facts: dict[str, Any]
    is_sharded: bool


class Process:
    """`crash` is called with the name of each moment at which dying matters (`registry.runs.MOMENTS`,
    `loop.MOMENTS`)."""

    def __init__(
        self,
        run: Run,
        run_file: Path,
        state: Path,
        *,
        environ: Mapping[str, str],
        clock: Clock,
        crash: Crash = nowhere,
    ) -> None:
        self._run, self._file, self._state = run, run_file, state
        self._environ, self._clock, self._crash = environ, clock, crash
        self._started_at = process_start(clock)
        columns = environ.get(TERMINAL, "")
        width = int(columns) if columns.isdigit() else None
        self._progress = Progress(sys.stderr, clock, width=width, is_terminal=True if width else None)
        self._record: Writer | None = None
        self._instance: Instance | None = None

    def go(self) -> tuple[int, str]:
        """An exit code of `exits`, and why. Raises StokerError."""
        run = self._run
        settle_numerics(deterministic=run.deterministic, threads=run.threads, gpus=run.gpus)
        world = World(self._environ, gpus=run.gpus)
        if world.local_rank == 0:
            self._instance = Instance(run, self._environ, self._clock)
        interruption = Interruption(
            run.spot,
            environ=self._environ,
            clock=self._clock,
            tell=self._progress.tell,
            is_watcher=world.local_rank == 0,
            last_words=self._end_early,
        )
        try:
            with interruption:
                interruption.nothing_unsaved(True)
                folder, store = self._begin(world)
                if why := self._cannot_begin(world, store):
                    return exits.BUDGET_SPENT, why
                opened = self._open(world, folder, store)
                claimed = self._claim(world, opened)
                return self._recorded(world, interruption, opened, claimed)
        finally:
            world.leave()

    def _end_early(self, why: Why) -> None:
        """Into the record, when a stop comes before there is anything to save."""
        if self._record is not None:
            self._record.add("end", self._clock.now(), state="preempted", why=why.reason)
            self._record.close()

    # --- open and claim ---------------------------------------------------------------------------------------------

    def _begin(self, world: World) -> tuple[Path, Store]:
        with world.leader_first():
            known, store = runs.begin(self._run, self._file, self._state, self._environ)
        return known.folder, store

    def _cannot_begin(self, world: World, store: Store) -> str | None:
        """Why the budget does not allow another launch; a run that is over costs no step, and may."""
        why = None
        if world.leads:
            why = cannot_begin(self._run, follow(store), now=self._started_at)
            why = None if why is None or runs.is_over(store, self._run) else why
        found: str | None = world.from_leader(why)
        return found

    def _open(self, world: World, folder: Path, store: Store) -> _Opened:
        run, here = self._run, self._file.absolute().parent
        tell = self._progress.tell if world.leads else _nobody
        cache = folder / "cache"
        with world.leader_first(local=True):
            base = base_folder(run, here=here, cache=cache)
        model = build(run, base)
        source = open_source(run, run.data, model.encoder, here=here, tell=tell, cache=cache)
        validation = None
        if run.validation is not None:
            validation = open_source(once(run), [run.validation], model.encoder, here=here, tell=tell, cache=cache)
        return _Opened(folder, store, RunStore(store, run.name, crash=self._crash), model, source, validation)

    def _claim(self, world: World, opened: _Opened) -> _Claimed:
        lease = opened.store.claim() if world.leads else None
        if world.leads:  # a launch that was begun since may have written other settings, as long as nothing was learned
            runs.begin(self._run, self._file, self._state, self._environ)
        epoch = int(world.from_leader(None if lease is None else lease.epoch))
        record = Writer(opened.plain, epoch) if world.leads else _NoRecord()
        return _Claimed(lease, epoch, record, nodes_of(self._run, world, self._instance, self._environ))

    def _recorded(
        self, world: World, interruption: Interruption, opened: _Opened, claimed: _Claimed
    ) -> tuple[int, str]:
        record, clock = claimed.record, self._clock
        self._record = record
        earlier = summary(follow(opened.plain), now=self._started_at) if world.leads else None
        record.add(
            "launch",
            clock.now(),
            epoch=claimed.epoch,
            run=self._run.name,
            nodes=claimed.nodes,
            processes=world.size,
            started_at=self._started_at,
            steps=opened.source.steps,
            data_digest=opened.source.digest,
            base_digest=opened.model.base_digest,
        )
        if world.leads:
            self._progress.tell(_opening(self._run, opened))
        state, why = "failed", ""
        onlookers = None
        pulse = contextlib.ExitStack()
        if world.leads:
            pulse.enter_context(Pulse(record, clock))
        try:
            ready = self._make_ready(world, opened)
            restored = self._go_on(world, opened, claimed, ready)
            step = 0 if restored.manifest is None else int(restored.manifest.state["step"])
            tokens = 0 if restored.manifest is None else int(restored.manifest.state["tokens"])
            parent = None if restored.manifest is None else restored.manifest.name
            parts = self._parts(world, interruption, opened, claimed, ready, step, parent)
            if earlier is not None:
                onlookers = self._look_on(parts, opened, claimed, earlier, restored)
            self._say_what_holds(world, opened, [] if earlier is None else earlier.saves)
            ready.module.train()
            code, why = Loop(parts, step=step, tokens=tokens).run()
            state = STATES.get(code, "failed")
        except Gone as error:
            # Told to stop, as the others were, one of whom was faster.
            why = error.message
            if interruption.wish != Wish.STOP:
                raise
            state, code = STATES[exits.PREEMPTED], exits.PREEMPTED
        except BaseException as error:
            why = str(error) or type(error).__name__
            raise
        finally:
            if onlookers is not None:
                onlookers.close(state)
            pulse.close()
            record.add("end", clock.now(), state=state, why=why)
            record.close()
        return code, why

    # --- make ready and go on ---------------------------------------------------------------------------------------

    def _make_ready(self, world: World, opened: _Opened) -> _Ready:
        is_sharded = is_sharded_in(self._run, world)
        module, loss = prepared(self._run, opened.model, world, is_sharded=is_sharded)
        parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
        adam = Adam(self._run.optimizer, parameters)
        facts = {
            "files_digest": opened.source.files_digest,
            "data_digest": opened.source.digest,
            "validation_digest": None if opened.validation is None else opened.validation.digest,
            "base_digest": opened.model.base_digest,
            identity.SETTINGS: runs.learned(self._run),
            "processes": world.size,
            "steps": opened.source.steps,
        }
        return _Ready(module, loss, adam, list(parameters.values()), held(parameters, adam), facts, is_sharded)

    def _go_on(self, world: World, opened: _Opened, claimed: _Claimed, ready: _Ready) -> Restored:
        self._crash("restore")
        clock, begun_at = self._clock, self._clock.monotonic()
        found = opened.store.head()
        assert found is not None  # noqa: S101 - it was claimed
        restored = newest(world, opened.store, found[0], ready.tensors, ready.facts)
        if restored.manifest is None:
            return restored
        if ready.facts["validation_digest"] is None:  # a launch that does not validate
            ready.facts["validation_digest"] = restored.manifest.state.get("validation_digest")
        step = int(restored.manifest.state["step"])
        ready.adam.settle(step)
        seconds = clock.monotonic() - begun_at
        if world.leads:
            for skipped in restored.skipped:
                self._progress.tell(f"checkpoint {skipped.name} cannot be used: {skipped.why}")
            name, steps = restored.manifest.name, opened.source.steps
            self._progress.tell(f"going on from step {step} of {steps} ({name}, read in {seconds:.1f} s)")
        said = [{"name": each.name, "step": each.step, "why": each.why} for each in restored.skipped]
        claimed.record.add("resume", clock.now(), step=step, name=restored.manifest.name, skipped=said, seconds=seconds)
        return replace(restored, seconds=seconds)

    def _parts(
        self,
        world: World,
        interruption: Interruption,
        opened: _Opened,
        claimed: _Claimed,
        ready: _Ready,
        step: int,
        parent: str | None,
    ) -> Parts:
        run = self._run
        mine = ready.tensors if ready.is_sharded else share(ready.tensors, world.rank, world.size)
        staging = staging_of(mine)
        is_direct = world.first_word(None if staging.has_buffer else "no room") is not None
        if is_direct and world.leads:
            self._progress.tell(
                "warning: no memory for a copy of the state: training waits while checkpoints are written"
            )
        saver = Saver(
            world,
            opened.store,
            run.name,
            claimed.epoch,
            claimed.lease,
            staging,
            mode="sync" if is_direct else run.checkpointing.mode,
            keep=Keep(run.checkpointing.keep_last, run.checkpointing.keep_every, run.checkpointing.keep_best),
            parent=parent,
            clock=self._clock,
            behind=claimed.record.send,
        )
        return Parts(
            run=run,
            world=world,
            module=ready.module,
            loss=ready.loss,
            adam=ready.adam,
            gradients=_gradients(run, ready, world),
            source=opened.source,
            validation=opened.validation,
            saver=saver,
            record=claimed.record,
            interruption=interruption,
            clock=self._clock,
            interval=Interval(
                run.checkpointing,
                interruptions_per_hour=interruptions_per_hour(claimed.nodes),
                clock=self._clock,
                step=step,
            ),
            facts=ready.facts,
            computing=contextlib.nullcontext if ready.is_sharded else computing(run, world.device),
            crash=self._crash,
            is_random=run.dropout > 0 or (run.method == "lora" and run.lora.dropout > 0),
            is_sharded=ready.is_sharded,
        )

    def _look_on(self, parts: Parts, opened: _Opened, claimed: _Claimed, earlier: Any, restored: Restored) -> Onlookers:
        """Process 0: the line on the terminal, trackers, the budget."""
        run, here = self._run, self._file.absolute().parent
        step = 0 if restored.manifest is None else int(restored.manifest.state["step"])
        live = Live(
            earlier,
            claimed.nodes,
            steps=opened.source.steps,
            started_at=self._started_at,
            from_step=step,
            clock=self._clock,
        )
        watching = trackers(run, here=here, nodes=claimed.nodes, from_step=step)
        scraped = exposition(os.environ, run=run.name, nodes=len(claimed.nodes))
        if scraped is not None:
            parts.saved = scraped.shown.saved
            if restored.seconds is not None:
                scraped.shown.restored(restored.seconds)
        onlookers = Onlookers(live, self._progress, [*watching, *([] if scraped is None else [scraped])])
        parts.live, parts.told, parts.tell = live, onlookers, self._progress.tell
        if run.budget.usd is not None or run.budget.hours is not None:
            parts.is_spent = BudgetWatch(run.budget, live, save_s=lambda: parts.saver.last_seconds)
        return onlookers

    def _say_what_holds(self, world: World, opened: _Opened, saves: Sequence[Save]) -> None:
        """Whether a save that begins with a notice can be durable in time. Raises InvalidInput where it has to be. What
        earlier launches saved is a better measure than a file that is written for it, and is known already."""
        run = self._run
        if run.spot.guarantee == "off":
            return
        words = None
        if world.leads:
            config = json.loads((opened.model.folder / "config.json").read_text())
            size = size_of(config, run)
            bytes_per_s, fixed_s = seen(saves, nodes=run.nodes) or measure(
                opened.plain, bytes_at_most=min(size.checkpoint_bytes, 64 << 20)
            )
            found = guarantee(run, size, bytes_per_s=bytes_per_s, fixed_s=fixed_s, step_s=0.0)
            words = {"holds": found.holds, "words": found.words}
            if not found.holds:
                self._progress.tell(f"warning: {found.words}")
        found_by_leader = world.from_leader(words)
        if run.spot.guarantee == "require" and not found_by_leader["holds"]:
            raise InvalidInput(found_by_leader["words"], param="spot.guarantee")


def _opening(run: Run, opened: _Opened) -> str:
    """What is about to be done, and where it is kept."""
    steps = opened.source.steps
    short = f" (epochs: {run.epochs} ends it before steps: {run.steps})" if run.steps and steps < run.steps else ""
    return (
        f"run {run.name}: {steps:,} step{'s' * (steps != 1)}{short}, {run.method} {run.objective} of {run.base}, "
        f"kept in {opened.plain.url}"
    )


def _gradients(run: Run, ready: _Ready, world: World) -> gradients.Gradients:
    if ready.is_sharded:
        return gradients.Sharded(ready.module, ready.parameters)
    if run.batch.canonical:
        return gradients.Canonical(ready.parameters, world, run.batch.rows // run.batch.micro_rows)
    return gradients.Alone(ready.parameters) if world.size == 1 else gradients.Flat(ready.parameters, world)


class _NoRecord(Writer):
    """Of every process but the first."""

    def __init__(self) -> None:
        pass

    def add(self, kind: str, at: float, **fields: Any) -> None:
        pass

    def send(self) -> None:
        pass

    def close(self) -> None:
        pass


def _nobody(_: str) -> None:
    pass
