"""docs/agents/examples.md, command by command: what it says that comes out comes out."""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from agents_parts import Client, cli, scripted
from flow_parts import Running, Start

pytestmark = [pytest.mark.flow, pytest.mark.redis]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "agents" / "examples.md").read_text(encoding="utf-8")
BLOCKS = [block.strip() for block in re.findall(r"(?ms)^```console\n(.*?)^```", PAGE)]
TIME = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d")


def told(block: str) -> list[tuple[list[str], str]]:
    """Each command of a block, with what the page says that it prints."""
    parts = re.split(r"(?m)^\$ ", block)[1:]
    return [(shlex.split(part.partition("\n")[0]), part.partition("\n")[2].strip()) for part in parts]


@pytest.fixture(scope="module")
def running(_starting: Start, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """What the first block starts, on free ports, in a copy of the checkout's examples."""
    (model, _), (up, _) = told(BLOCKS[0])
    assert shlex.join(model) == "python -m stoker.testing.scripted examples/agents/script.yaml --port 8100"
    assert shlex.join(up) == "stoker up -f examples/agents/platform.yaml"
    root = tmp_path_factory.mktemp("examples")
    shutil.copytree(ROOT / "examples" / "agents", root / "examples" / "agents")
    platform = root / "examples" / "agents" / "platform.yaml"
    with scripted(ROOT / model[3]) as url:
        said = platform.read_text()
        assert said.count('"http://127.0.0.1:8100/v1"') == 3
        platform.write_text(said.replace("http://127.0.0.1:8100", url))
        made = _starting("-f", str(platform), state=root / "state")
        yield made
        made.stop()


@pytest.mark.parametrize("block", BLOCKS[1:], ids=lambda block: told(block)[0][0][3])
def test_each_command_says_what_the_page_says(running: Running, block: str) -> None:
    run = "RUN"
    for argv, expected in told(block):
        done = cli(running, *[run if word == "RUN" else word for word in argv[1:]], cwd=running.state.parent)
        assert done.returncode == 0, done.stderr
        if found := re.search(r"(?m)^run (run_\w+)$", done.stderr):
            run = found[1]
        said = TIME.sub("2026-01-31 09:00", done.stdout.strip().replace(run, "RUN"))
        said = said.replace("RUN running", "RUN queued")  # a worker may take it before it is asked about
        assert said == expected, done.stderr


def test_the_lead_has_a_run_below_it_for_each_worker(running: Running) -> None:
    client = Client(running, running.key)
    lead = next(run for run in client.call("GET", "/v1/agents/lead/runs")["data"])
    children = [client.ended(f"{lead['id']}.{number}") for number in (1, 2)]
    assert [(child["agent"], child["status"]) for child in children] == [
        ("researcher", "completed"),
        ("reckoner", "completed"),
    ]
    assert lead["usage"]["model_calls"] == 3 + sum(child["usage"]["model_calls"] for child in children)
    assert (running.state.parent / "logbook.txt").read_text().count("Battery two was changed.") == 1
    assert "generator" not in (running.state.parent / "logbook.txt").read_text()


def test_what_the_page_says_of_scripts_is_a_script(tmp_path: Path) -> None:
    (script,) = re.findall(r"(?ms)^```yaml\n(.*?)^```", PAGE)
    (tmp_path / "script.yaml").write_text(script)
    with scripted(tmp_path / "script.yaml") as url:
        assert url.startswith("http://127.0.0.1:")
