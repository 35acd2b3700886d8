"""`stoker drill`: something dies in a running platform, on purpose, and a verdict says whether anything was lost."""

import secrets
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from stoker.base.errors import InvalidInput, NotFound
from stoker.cli import show, target

if TYPE_CHECKING:
    from stoker.drill.processes import Process
    from stoker.drill.runs import Plan, Platform
    from stoker.drill.verdicts import Verdict
    from stoker.local.state import StateDirectory
    from stoker.policy.leaving import SpotAction

_TERMINATED = 128 + signal.SIGTERM
_MOST_REQUESTS = 500
# How much longer than its notice the load of a spot drill lasts: some before, and some for the machine that comes.
_AROUND_NOTICE_S = 4.0


def _load_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all drills have in common. They arrive as `state`, `count`, `seconds`, and so on."""
    for decorate in (
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and no progress."),
        click.option("--seed", type=int, help="Same seed, same load and same victims. Default: by chance; it is told."),
        click.option(
            "--wait",
            "wait_s",
            type=click.FloatRange(0, 3600, min_open=True),
            help="Seconds for the rest after the last was sent. Default: two leases and 10 s.",
        ),
        click.option(
            "--compare",
            type=click.IntRange(0, _MOST_REQUESTS),
            default=8,
            show_default=True,
            help="How many answers are compared with what is answered in the calm; 0 where a model answers by chance.",
        ),
        click.option("--clients", type=click.IntRange(1, 200), default=16, show_default=True, help="Requests at once."),
        click.option(
            "--seconds",
            type=click.FloatRange(1, 3600),
            help="For how long they are sent. Default: 4 for each kill; the notice and 4.",
        ),
        click.option(
            "--tasks",
            "count",
            type=click.IntRange(4, _MOST_REQUESTS),
            default=40,
            show_default=True,
            help="Requests in all; half of them are tasks.",
        ),
        click.option("--model", help="The model that is asked, and whose worker or engine is hit. Default: by chance."),
        click.option("--state", type=click.Path(path_type=Path), help="State directory of the platform."),
    ):
        command = decorate(command)
    return command


@click.group()
def drill() -> None:
    """Let something die under load, and get a verdict: exit code 0 only when nothing was lost."""


@drill.command()
@click.argument("role", type=click.Choice(["worker", "engine", "gateway", "redis"]), metavar="ROLE")
@_load_options
@click.option("--times", type=click.IntRange(1, 20), default=1, show_default=True, help="How often.")
def kill(role: Any, state: Path | None, seconds: float | None, as_json: bool, seed: int | None, **asked: Any) -> int:
    """SIGKILL to a worker, an engine, the gateway or Redis: ROLE is one of these words."""
    from stoker.drill.runs import Plan

    plan = Plan(role, seed=_seed(seed), seconds=seconds or 4.0 * asked["times"], **asked)
    return _run(state or target.default_state(), plan, as_json)


@drill.command()
@_load_options
@click.option(
    "--run",
    "run",
    metavar="FILE|ID",
    help="A training run: its file, or its name. It is done twice, once with a notice and kills, and compared.",
)
@click.option(
    "--kills",
    type=click.IntRange(1, 20),
    default=1,
    show_default=True,
    help="With --run: how often a process is killed without a notice.",
)
@click.option(
    "--steps",
    type=click.IntRange(4, 100_000),
    default=24,
    show_default=True,
    help="With --run: how many steps of it are done, at most.",
)
@click.option(
    "--notice-seconds",
    "notice_s",
    type=click.FloatRange(1, 600),
    default=10.0,
    show_default=True,
    help="How long before its end the machine says so; AWS gives 120.",
)
@click.option(
    "--action",
    type=click.Choice(["terminate", "stop", "hibernate"]),
    default="terminate",
    show_default=True,
    help="What the notice says.",
)
def spot(
    state: Path | None,
    seconds: float | None,
    as_json: bool,
    seed: int | None,
    notice_s: float,
    action: "SpotAction",
    run: str | None,
    kills: int,
    steps: int,
    **asked: Any,
) -> int:
    """Take the machine below a worker away, as AWS does with a spot instance: a notice, then the end. With --run: below
    a training run."""
    _refuse_mixed(is_training=run is not None)
    if run is not None:
        from stoker.cli.drill_training import drill_training

        where = state or target.default_state()
        return drill_training(run, where, seed=_seed(seed), kills=kills, steps=steps, as_json=as_json)
    from stoker.drill.runs import Plan
    from stoker.drill.spot import Spot

    where = state or target.default_state()
    taken = Spot(where.absolute() / "metadata", notice_s=notice_s, action=action)
    plan = Plan("spot", seed=_seed(seed), seconds=seconds or notice_s + _AROUND_NOTICE_S, spot=taken, **asked)
    return _run(where, plan, as_json)


def _refuse_mixed(*, is_training: bool) -> None:
    """What is said of the load of a platform says nothing of a training run, and the other way round."""
    context = click.get_current_context()
    both = {"state", "as_json", "seed"}
    training = {"run", "kills", "steps"}
    given = [
        param.opts[-1]
        for param in context.command.params
        if param.name is not None
        and param.name not in both
        and (param.name in training) is not is_training
        and context.get_parameter_source(param.name) is ParameterSource.COMMANDLINE
    ]
    if given and is_training:
        raise click.UsageError(f"{', '.join(given)} and --run do not go together: it is about the load of a platform")
    if given:
        raise click.UsageError(f"{', '.join(given)} needs --run")


def _seed(asked: int | None) -> int:
    return secrets.randbelow(1_000_000) if asked is None else asked


def _run(where: Path, plan: "Plan", as_json: bool) -> int:
    from stoker.drill.alone import alone
    from stoker.local.state import StateDirectory

    state = StateDirectory(where)
    platform = _platform(state)
    with alone(state.path / "drill.lock"):
        verdict = _verdict(platform, plan, quiet=as_json)
    if as_json:
        show.as_json(verdict.as_json(seed=plan.seed))
    else:
        _print(verdict, plan)
    return 0 if verdict.passed else 1


def _platform(state: "StateDirectory") -> "Platform":
    """Raises NotFound when none runs there, InvalidInput when its admin key is not there."""
    from stoker import spec
    from stoker.drill.runs import Platform
    from stoker.local.status import current

    run = current(state)
    if run.get("state") != "up":
        raise NotFound(
            f"the platform in {state.path} is {run.get('state')}, and a drill needs one that runs",
            hint="`stoker up` starts it; `stoker ps` says when it is up",
        )
    credentials = state.read_credentials()
    if credentials is None or not credentials.admin_key:
        raise InvalidInput(
            f"there is no admin key in {state.credentials}, and a drill makes a key of its own with it",
            param="state",
            hint="the next `stoker up` on this directory makes one",
        )
    written = spec.load(state.spec)
    engines = {name: model.engine for name, model in written.llm.models.items()}
    return Platform(
        url=credentials.url,
        admin_key=credentials.admin_key,
        look=lambda: _processes(current(state)),
        supervisor=credentials.pid,
        lease_s=written.queue.lease_seconds,
        begin_anew=frozenset(
            name for name, engine in engines.items() if isinstance(engine, spec.ServerEngine) and not engine.continues
        ),
    )


def _processes(run: dict[str, Any]) -> "Sequence[Process]":
    from stoker.drill.processes import Process

    return [
        Process(p["name"], p["role"], p["state"], pid=p["pid"], model=p["model"], url=p["url"])
        for p in run.get("processes") or []
    ]


def _verdict(platform: "Platform", plan: "Plan", *, quiet: bool) -> "Verdict":
    import asyncio

    from stoker.base.clock import SystemClock
    from stoker.base.errors import StokerError
    from stoker.cli.api import explain
    from stoker.drill.runs import Drill

    is_terminated = False

    async def run() -> "Verdict":
        nonlocal is_terminated

        def terminate() -> None:
            nonlocal is_terminated
            is_terminated = True
            task.cancel()

        task = asyncio.ensure_future(Drill(platform, plan, SystemClock(), tell).run())
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, terminate)
        return await task

    def tell(text: str) -> None:
        if not quiet:
            show.note(text)

    try:
        return asyncio.run(run())
    except asyncio.CancelledError:
        if is_terminated:
            raise click.exceptions.Exit(_TERMINATED) from None
        raise
    except StokerError as error:
        explain(error)
        raise


def _print(verdict: "Verdict", plan: "Plan") -> None:
    show.table(
        ["check", "", "what was seen"],
        [[check.name, "ok" if check.ok else "FAILED", check.said] for check in verdict.checks],
    )
    tokens = verdict.evidence["tokens"]
    click.echo(
        f"\ntokens: {tokens['told']} told, {tokens['billed_not_told']} billed beside, "
        f"{'?' if tokens['recomputed'] is None else tokens['recomputed']} computed again or for nobody"
    )
    words = "pass" if verdict.passed else "fail"
    click.echo(f"{words}: {plan.target}, seed {plan.seed}, {verdict.evidence['seconds']:.1f} s of load")
