"""One process of a run, from its environment to the loop."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from stoker.base.clock import Clock
from stoker.registry.heads import Keep
from stoker.registry.runs import Crash, Lease, RunStore
from stoker.registry.stores import Store
from stoker.spec import Run
from stoker.train import exits, gradients, runs
from stoker.train.interruption import Interruption
from stoker.train.interval import Interval
from stoker.train.loop import Loop, Parts, nowhere
from stoker.train.model import Model, base_folder, build, computing
from stoker.train.nodes import interruptions_per_hour, nodes_of, process_start
from stoker.train.optimizer import Adam
from stoker.train.preparing import is_sharded_in, prepared
from stoker.train.record import Writer
from stoker.train.restoring import Restored, newest
from stoker.train.saving import Saver
from stoker.train.source import Source, open_source
from stoker.train.state import Held, Staging, held, share
from stoker.train.world import World, settle_numerics

Tell = Callable[[str], None]

_STATES = {
    exits.COMPLETED: "completed",
    exits.PREEMPTED: "preempted",
    exits.BUDGET_SPENT: "budget",
    exits.FENCED: "fenced",
}


class Process:
    """`crash` is called with the name of each moment at which dying matters (`registry.runs.MOMENTS`, `loop.MOMENTS`)."""

    def __init__(
        self,
        run: Run,
        run_file: Path,
        state: Path,
        *,
        environ: Mapping[str, str],
        clock: Clock,
        tell: Tell,
        crash: Crash = nowhere,
    ) -> None:
        self._crash = crash
        self._run, self._file, self._state = run, run_file, state
        self._environ, self._clock = environ, clock
        self._tell_all = tell
        self._started_at = process_start(clock)

    def go(self) -> tuple[int, str]:
        """An exit code of `exits`, and why. Raises StokerError."""
        run = self._run
        settle_numerics(deterministic=run.deterministic, threads=run.threads, gpus=run.gpus)
        world = World(self._environ, gpus=run.gpus)
        tell = self._tell_all if world.leads else _nobody
        try:
            with Interruption(
                run.spot,
                environ=self._environ,
                clock=self._clock,
                tell=self._tell_all,
                is_watcher=world.local_rank == 0,
            ) as interruption:
                interruption.nothing_unsaved(True)
                return self._train(world, interruption, tell)
        finally:
            world.leave()

    def _train(self, world: World, interruption: Interruption, tell: Tell) -> tuple[int, str]:
        run, here = self._run, self._file.parent
        known, store = runs.begin(run, self._file, self._state, dict(self._environ)) if world.leads else (None, None)
        world.barrier()
        if store is None:
            known, store = runs.begin(run, self._file, self._state, dict(self._environ))
        assert known is not None  # noqa: S101 - as begin returns
        cache = known.folder / "cache"
        if world.local_rank == 0:
            base_folder(run, here=here, cache=cache)
        world.barrier()
        model = build(run, base_folder(run, here=here, cache=cache))
        source = open_source(run, run.data, model.encoder, here=here, tell=tell, cache=cache)
        validation = _validation(run, model, here, tell, cache)
        return self._with_data(
            world, interruption, tell, RunStore(store, run.name, crash=self._crash), store, model, source, validation
        )

    def _with_data(
        self,
        world: World,
        interruption: Interruption,
        tell: Tell,
        store: RunStore,
        plain: Store,
        model: Model,
        source: Source,
        validation: Source | None,
    ) -> tuple[int, str]:
        run, clock = self._run, self._clock
        lease = store.claim() if world.leads else None
        epoch = int(world.from_leader(None if lease is None else lease.epoch))
        record = Writer(plain, epoch) if world.leads else _NoRecord()
        nodes = nodes_of(run, world, self._environ, clock)
        record.add(
            "launch",
            clock.now(),
            epoch=epoch,
            run=run.name,
            nodes=nodes,
            processes=world.size,
            started_at=self._started_at,
            steps=source.steps,
            data_digest=source.digest,
            base_digest=model.base_digest,
        )
        state, code, why = "failed", exits.FAILED, ""
        try:
            loop = self._ready(world, interruption, tell, store, lease, epoch, record, model, source, validation, nodes)
            code, why = loop.run()
            state = _STATES.get(code, "failed")
        except BaseException as error:
            why = str(error) or type(error).__name__
            raise
        finally:
            record.add("end", clock.now(), state=state, why=why)
            record.close()
        return code, why

    def _ready(
        self,
        world: World,
        interruption: Interruption,
        tell: Tell,
        store: RunStore,
        lease: Lease | None,
        epoch: int,
        record: Writer,
        model: Model,
        source: Source,
        validation: Source | None,
        nodes: list[dict[str, Any]],
    ) -> Loop:
        run, clock = self._run, self._clock
        is_sharded = is_sharded_in(run, world)
        module, loss = prepared(run, model, world, is_sharded=is_sharded)
        parameters = {name: each for name, each in module.named_parameters() if each.requires_grad}
        adam = Adam(run.optimizer, parameters)
        everything = held(parameters, adam)
        facts: dict[str, Any] = {
            "data_digest": source.digest,
            "base_digest": model.base_digest,
            "processes": world.size,
            "steps": source.steps,
        }
        begun_at = clock.monotonic()
        restored = self._restored(world, store, everything, facts)
        step, tokens = 0, 0
        if restored.manifest is not None:
            step, tokens = int(restored.manifest.state["step"]), int(restored.manifest.state["tokens"])
            adam.settle(step)
        for skipped in restored.skipped:
            tell(f"checkpoint {skipped.name} cannot be used: {skipped.why}")
        if restored.manifest is not None:
            seconds = clock.monotonic() - begun_at
            tell(f"going on from step {step} of {source.steps} ({restored.manifest.name}, read in {seconds:.1f} s)")
            said = [{"name": each.name, "step": each.step, "why": each.why} for each in restored.skipped]
            record.add("resume", clock.now(), step=step, name=restored.manifest.name, skipped=said, seconds=seconds)
        mine = everything if is_sharded else share(everything, world.rank, world.size)
        keep = Keep(run.checkpointing.keep_last, run.checkpointing.keep_every, run.checkpointing.keep_best)
        saver = Saver(
            world,
            store,
            run.name,
            epoch,
            lease,
            Staging(mine),
            mode=run.checkpointing.mode,
            keep=keep,
            clock=clock,
            behind=record.send,
        )
        passes = run.batch.rows // run.batch.micro_rows
        trained = list(parameters.values())
        if is_sharded:
            grads: gradients.Gradients = gradients.Sharded(trained)
        elif run.batch.canonical:
            grads = gradients.Canonical(trained, world, passes)
        else:
            grads = gradients.Flat(trained, world)
        parts = Parts(
            run=run,
            world=world,
            module=module,
            loss=loss,
            adam=adam,
            gradients=grads,
            source=source,
            validation=validation,
            saver=saver,
            record=record,
            interruption=interruption,
            clock=clock,
            interval=Interval(
                run.checkpointing, interruptions_per_hour=interruptions_per_hour(nodes), clock=clock, step=step
            ),
            is_spent=lambda: False,
            told=lambda done: None,
            facts=facts,
            computing=lambda: computing(run, world.device) if not is_sharded else contextlib.nullcontext(),
            crash=self._crash,
            is_random=run.dropout > 0 or (run.method == "lora" and run.lora.dropout > 0),
            is_sharded=is_sharded,
        )
        module.train()
        return Loop(parts, step=step, tokens=tokens)

    def _restored(self, world: World, store: RunStore, everything: list[Held], facts: dict[str, Any]) -> Restored:
        self._crash("restore")
        found = store.head()
        assert found is not None  # noqa: S101 - it was claimed
        return newest(world, store, found[0], everything, facts)


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


def _validation(run: Run, model: Model, here: Path, tell: Tell, cache: Path) -> Source | None:
    """In the order of the file, once."""
    if run.validation is None:
        return None
    dataset = run.dataset.model_copy(update={"shuffle": False, "transform": None, "workers": 0})
    once = run.model_copy(update={"dataset": dataset, "epochs": 1, "steps": None})
    return open_source(once, [run.validation], model.encoder, here=here, tell=tell, cache=cache)


def _nobody(_: str) -> None:
    pass
