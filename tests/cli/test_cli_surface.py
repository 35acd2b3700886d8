"""The promised surface: commands, options, exit codes, how errors read, and what help loads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from stoker import __version__
from stoker.cli.app import run, stoker

PLATFORM = ["--url", "--key", "--state"]
KEY_TERMS = [
    "--name",
    "--budget-usd",
    "--budget-tokens",
    "--budget",
    "--models",
    "--routes",
    "--expires-in",
]
MOST_MODULES = 300
"""With Python's own; 240 are loaded."""
LETTERS = ["--model", "--tenant", "--reason", "--older-than", "--newer-than"]
TENANT_TERMS = ["--description", "--budget", "--session-budget", "--run-budget", "--when-redis-is-away"]
DRILL = ["--state", "--model", "--tasks", "--seconds", "--clients", "--compare", "--wait", "--seed"]

# Growing this is a decision, taken in a diff: scripts hold on to these names.
SURFACE = {
    "stoker": ["--version"],
    "stoker init": ["--file", "--force"],
    "stoker up": ["--file", "--port", "--host", "--state", "--json", "--verbose"],
    "stoker ps": ["--state", "--json"],
    "stoker gpus": [
        "--from",
        "--prometheus",
        "--for",
        "--every",
        "--instance-type",
        "--file",
        "--state",
        "--watch",
        "--json",
    ],
    "stoker gpus export": ["--port", "--host", "--state"],
    "stoker scale": ["[MODEL]", "N|auto", "--state", "--watch", "--json"],
    "stoker chat": ["TEXT", *PLATFORM, "--model", "--max-tokens", "--image", "--no-stream"],
    "stoker load": [
        *PLATFORM,
        "--rate",
        "--concurrency",
        "--seconds",
        "--model",
        "--max-tokens",
        "--prompt-words",
        "--seed",
        "--even",
        "--max-in-flight",
        "--timeout",
        "--json",
    ],
    "stoker drill": [],
    "stoker drill kill": ["ROLE", *DRILL, "--json", "--times"],
    "stoker drill spot": [*DRILL, "--json", "--run", "--kills", "--steps", "--notice-seconds", "--action"],
    "stoker keys": [],
    "stoker keys create": [*PLATFORM, "--tenant", "--team", "--role", *KEY_TERMS, "--json"],
    "stoker keys list": [*PLATFORM, "--tenant", "--team", "--all", "--json"],
    "stoker keys show": ["ID", *PLATFORM, "--json"],
    "stoker keys update": ["ID", *PLATFORM, *KEY_TERMS, "--json"],
    "stoker keys rotate": ["ID", *PLATFORM, "--grace", "--json"],
    "stoker keys revoke": ["ID", *PLATFORM, "--json"],
    "stoker tenants": [],
    "stoker tenants list": [*PLATFORM, "--json"],
    "stoker tenants show": ["TENANT", *PLATFORM, "--json"],
    "stoker tenants create": ["TENANT", *PLATFORM, *TENANT_TERMS, "--json"],
    "stoker tenants update": ["TENANT", *PLATFORM, "--team", *TENANT_TERMS, "--json"],
    "stoker budgets": [*PLATFORM, "--tenant", "--json"],
    "stoker usage": [*PLATFORM, "--since", "--tenant", "--agent", "--run", "--json"],
    "stoker starts": [*PLATFORM, "--model", "--since", "--limit", "--json"],
    "stoker cost": [
        *(*PLATFORM, "--by", "--since", "--until", "--limit", "--bill", "--aws", "--amount", "--cluster", "--all"),
        *("--savings", "--forecast", "--anomalies", "--json"),
    ],
    "stoker usage export": [*PLATFORM, "--format", "--since", "--until", "--tenant", "--output"],
    "stoker usage prune": [*PLATFORM, "--before", "--json"],
    "stoker tasks": [],
    "stoker tasks list": [*PLATFORM, "--model", "--only", "--limit", "--json"],
    "stoker tasks dead": ["[ID]", *PLATFORM, *LETTERS, "--limit", "--after", "--body", "--json"],
    "stoker tasks replay": ["[ID]...", *PLATFORM, *LETTERS, "--all", "--from-sqs", "--max", "--json"],
    "stoker tasks drop": ["[ID]...", *PLATFORM, *LETTERS, "--all", "--max", "--why", "--json"],
    "stoker tasks dropped": [*PLATFORM, "--limit", "--json"],
    "stoker tasks show": ["ID", *PLATFORM, "--wait", "--json"],
    "stoker tasks retry": ["ID", *PLATFORM, "--json"],
    "stoker tasks cancel": ["ID", *PLATFORM, "--json"],
    "stoker tasks submit": ["TEXT", *PLATFORM, "--model", "--max-tokens", "--wait", "--idempotency-key", "--json"],
    "stoker batches": [],
    "stoker batches create": ["FILE", *PLATFORM, "--endpoint", "--window", "--wait", "--json"],
    "stoker batches list": [*PLATFORM, "--limit", "--json"],
    "stoker batches show": ["ID", *PLATFORM, "--wait", "--json"],
    "stoker batches results": ["ID", *PLATFORM, "--errors"],
    "stoker batches cancel": ["ID", *PLATFORM, "--json"],
    "stoker train": ["RUN.yaml", "--check", "--state", "--fresh", "--json", "--verbose"],
    "stoker agents": [*PLATFORM, "--json"],
    "stoker agents list": [*PLATFORM, "--json"],
    "stoker agents show": ["NAME", *PLATFORM, "--json"],
    "stoker agents run": [
        *("NAME", "[TEXT]", *PLATFORM),
        *("--file", "--image", "--thread", "--usd", "--tokens", "--steps", "--grant", "--no-wait", "--json"),
    ],
    "stoker agents check": ["--file", "--json"],
    "stoker agents runs": [],
    "stoker agents runs list": ["[NAME]", *PLATFORM, "--status", "--thread", "--limit", "--json"],
    "stoker agents runs show": ["ID", *PLATFORM, "--json"],
    "stoker agents runs follow": ["ID", *PLATFORM, "--json"],
    "stoker agents runs cancel": ["ID", *PLATFORM, "--json"],
    "stoker agents runs resume": ["ID", *PLATFORM, "--json"],
    "stoker agents runs approve": ["ID", *PLATFORM, "--wait", "--arguments", "--message", "--json"],
    "stoker agents runs reject": ["ID", *PLATFORM, "--wait", "--message", "--json"],
    "stoker agents runs answer": ["ID", "VALUE", *PLATFORM, "--wait", "--json"],
    "stoker agents schedules": [],
    "stoker agents schedules list": ["NAME", *PLATFORM, "--json"],
    "stoker agents schedules create": [
        *("NAME", "CRON", "[TEXT]", *PLATFORM, "--file", "--timezone", "--thread", "--json"),
    ],
    "stoker agents schedules delete": ["NAME", "ID", *PLATFORM],
    "stoker runs": ["--state", "--json"],
    "stoker runs list": ["--state", "--json"],
    "stoker runs show": ["ID", "--state", "--prices", "--html", "--json"],
    "stoker runs pin": ["ID", "CHECKPOINT", "--unpin", "--state"],
    "stoker runs verify": ["ID", "--checkpoint", "--state", "--json"],
    "stoker evaluate": [
        "RUN.yaml",
        *("--state", "--checkpoint", "--url", "--key", "--model", "--again", "--score-file", "--json"),
    ],
    "stoker register": ["RUN.yaml", "--state", "--checkpoint", "--to", "--unevaluated", "--back", "--json"],
    "stoker audit": [*PLATFORM, "--by", "--did", "--object", "--since", "--limit", "--json"],
    "stoker render": ["--file", "--out", "--mode", "--aws", "--terraform", "--only", "--helm", "--force", "--json"],
    "stoker deploy": ["--file", "--state", "--dry-run", "--yes", "--force-conflicts", "--trace", "--json"],
    "stoker diff": ["--file", "--state", "--exit-code", "--json"],
    "stoker status": ["--file", "--state", "--json"],
    "stoker destroy": ["--file", "--state", "--yes", "--delete-data", "--dry-run", "--json"],
    "stoker lint": [
        "PATH...",
        *(
            "--fix",
            "--diff",
            "--json",
            "--sarif",
            "--fail-on",
            "--level",
            "--rule",
            "--ignore",
            "--config",
            "--kubernetes",
        ),
        *("--explain", "--list"),
    ],
    "stoker simulate": [
        "PATH...",
        *("--trace", "--scale", "--speed", "--hours", "--to", "--weights", "--seed", "--seeds", "--start", "--cold"),
        *(
            "--timeout",
            "--slo-ttft",
            "--slo-e2e",
            "--region",
            "--node-group",
            "--interruptions",
            "--spot-trace",
            "--prices",
        ),
        *("--ice", "--spot-to-spot", "--drift", "--prior", "--json", "--html", "--explain", "--compare"),
    ],
    "stoker schema": ["--run"],
    "stoker schemas": [],
    "stoker schemas list": ["--json"],
    "stoker schemas add": ["FILES...", "--kubernetes"],
    "stoker schemas remove": ["GROUP/VERSION/KIND|MINOR..."],
    "stoker openapi": ["--file"],
}


def surface(command: click.Command, name: str) -> dict[str, list[str]]:
    params = [
        param.opts[-1] if isinstance(param, click.Option) else param.make_metavar(click.Context(command))
        for param in command.params
    ]
    found = {name: params}
    if isinstance(command, click.Group):
        for word, sub in command.commands.items():
            found |= surface(sub, f"{name} {word}")
    return found


def test_commands_and_options_are_those_that_were_promised() -> None:
    assert surface(stoker, "stoker") == SURFACE


def test_every_command_and_option_says_what_it_is_for() -> None:
    def check(command: click.Command, name: str) -> None:
        assert command.help, name
        for param in command.params:
            if isinstance(param, click.Option):
                assert param.help, f"{name} {param.opts}"
        if isinstance(command, click.Group):
            for word, sub in command.commands.items():
                check(sub, f"{name} {word}")

    check(stoker, "stoker")


def test_help_loads_nothing_heavy_and_little_of_what_is_light() -> None:
    """How many modules, and not how long it took: that is the machine's, too."""
    heavy = ["asyncio", "numpy", "pydantic", "redis", "rich", "sqlalchemy", "starlette", "torch", "uvicorn"]
    code = (
        "import sys; from stoker.cli.app import run; code = run(['--help']);"
        f"print([name for name in {heavy} if name in sys.modules], len(sys.modules), file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)

    found, count = done.stderr.strip().rsplit(" ", 1)
    assert (done.returncode, found) == (0, "[]")
    assert "Commands:" in done.stdout
    assert int(count) < MOST_MODULES


@pytest.mark.parametrize("command", ["init", "schema"])
def test_light_commands_load_no_engine_no_server_and_no_database(command: str, tmp_path: Path) -> None:
    code = (
        f"import sys; from stoker.cli.app import run; code = run(['{command}']);"
        "print([n for n in ('numpy', 'starlette', 'sqlalchemy') if n in sys.modules], file=sys.stderr); sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30, cwd=tmp_path
    )

    assert done.returncode == 0
    assert done.stderr.endswith("[]\n")


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"stoker {__version__}\n"


@pytest.mark.parametrize("command", [[], ["tasks"]])
def test_a_group_alone_shows_what_there_is_and_is_no_error(
    command: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith(f"Usage: {' '.join(['stoker', *command])} [OPTIONS] COMMAND")
    assert "hint:" not in said.err


def test_an_error_is_a_line_a_blank_line_and_a_hint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["usage", "--state", str(tmp_path / "none")]) == 2

    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == (
        f"error: no platform was started in {tmp_path / 'none'}\n"
        "\n"
        "hint: start one with `stoker up`, or name one with --state DIR, or with --url and --key\n"
    )


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nonsense"], "No such command 'nonsense'."),
        (["up", "--nonsense"], "No such option '--nonsense'"),
        (["load"], "Missing option '--seconds'."),
        (["load", "--seconds", "3601", "--rate", "1"], "3601.0 is not in the range"),
        (["load", "--seconds", "1"], "give one of --rate R (open loop) and --concurrency C (closed loop)"),
        (["chat", "hi", "--url", "http://127.0.0.1:1"], "--url is given without a key"),
        (["chat", "hi", "--url", "127.0.0.1:1", "--key", "k"], "the platform's URL is '127.0.0.1:1'; it must begin"),
    ],
)
def test_who_asks_wrongly_gets_exit_code_2(
    arguments: list[str], error: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("STOKER_URL", "STOKER_KEY", "STOKER_STATE"):
        monkeypatch.delenv(name, raising=False)

    assert run(arguments) == 2
    assert error in capsys.readouterr().err


def test_a_platform_that_does_not_answer_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["chat", "hi", "--url", "http://127.0.0.1:1", "--key", "sk-x"]) == 1

    said = capsys.readouterr().err
    assert "error: cannot reach http://127.0.0.1:1" in said
    assert "hint: is it running?" in said
    assert "sk-x" not in said


def test_an_unexpected_error_is_one_line_and_its_traceback_only_with_verbose(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(arguments: object, **_: object) -> None:
        raise RuntimeError("the sky fell")

    monkeypatch.setattr(stoker, "main", broken)

    assert run(["ps"]) == 1
    short = capsys.readouterr().err
    assert short.startswith("error: unexpected RuntimeError: the sky fell\n\nhint: ")
    assert "Traceback" not in short
    assert run(["up", "-v"]) == 1
    assert "Traceback" in capsys.readouterr().err


def test_ctrl_c_is_quiet_and_exit_code_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(context: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(stoker.commands["schema"], "invoke", interrupted)

    assert run(["schema"]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_reader_that_leaves_is_no_error() -> None:
    """`stoker schema | head -1`"""
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "stoker.cli.app", "schema"],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
        timeout=30,
    )
    os.close(writing)

    assert done.stderr == b""


def test_schema_is_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["schema"]) == 0
    assert "llm" in json.loads(capsys.readouterr().out)["properties"]


def test_init_writes_a_file_that_means_the_defaults_and_never_replaces_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from stoker import spec

    file = tmp_path / "platform.yaml"
    assert run(["init", "-f", str(file)]) == 0
    assert spec.load(file) == spec.load(None)

    file.write_text("mine")
    assert run(["init", "-f", str(file)]) == 2
    assert f"error: {file} exists already\n\nhint: --force replaces it" in capsys.readouterr().err
    assert file.read_text() == "mine"
    assert run(["init", "-f", str(file), "--force"]) == 0
    assert file.read_text() != "mine"
