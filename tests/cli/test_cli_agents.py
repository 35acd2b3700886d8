"""`stoker agents` beside the API that it calls."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import click
import pytest
from agents_service import KEY, Agents, Typed, a_service
from agents_stories import CHILD, RUN, T0, Events, Json, a_run, a_story

from stoker.agents.spans import spans_of, tree_spans
from stoker.cli import agents_follow
from stoker.cli.agents_tree import seconds, tree_of
from stoker.cli.app import run, stoker
from stoker.spec import loads

DOCS = Path(__file__).parents[2] / "docs" / "agents" / "index.md"
MAIL = {
    "id": "w2",
    "kind": "approval",
    "tool": "mail",
    "arguments": {"to": "ada"},
    "message": "send it?",
    "child": None,
}
CALCULATOR = {
    "name": "calculator",
    "description": "Arithmetic.\nExact.",
    "effect": "read",
    "repeatable": True,
    "approval": "never",
}
RESEARCHER = {
    "id": "researcher",
    "object": "agent",
    "name": "researcher",
    "description": "Reads.",
    "model": "auto",
    "tools": [CALCULATOR],
    "limits": {"usd": 1.0, "tokens": None, "steps": 50},
    "grants": [],
}


@pytest.fixture
async def agents(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Agents]:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    monkeypatch.setattr(agents_follow, "PAUSES_S", (0.0, 0.0))
    try:
        async with a_service() as service:
            monkeypatch.setenv("STOKER_URL", service.url)
            monkeypatch.setenv("STOKER_KEY", KEY)
            yield Agents(service, capsys)
    finally:
        monkeypatch.undo()
        time.tzset()


def put(agents: Agents, *story: tuple[Json, list[Json]]) -> None:
    for told, events in story:
        agents.service.runs[told["id"]] = told
        agents.service.events[told["id"]] = events


TREE = """\
researcher run_01                                                     20.0 s
├─ step 1 (model)                                                      2.0 s
│  └─ model small  1000 in, 40 out  $0.001                             1.5 s
├─ step 2 (tools)                                                      1.0 s
│  ├─ tool calculator {"expression":"6*7"} -> 42                       0.5 s
│  └─ tool helper {"input":"check 42"} -> yes                          4.0 s
│     └─ helper run_01.1                                               3.0 s
│        └─ step 1 (model)                                             2.0 s
│           └─ model large  210 in, 5 out  $0.00025                    1.0 s
├─ step 3 (tools)                                                      0.5 s
└─ wait approval mail {"to":"ada@example.com"}: send it? -> reject    10.0 s
"""


def test_a_trace_is_printed_as_a_tree() -> None:
    assert tree_of(tree_spans(a_story())) == TREE.splitlines()
    assert TREE in DOCS.read_text()


def test_the_file_in_the_documentation_is_one() -> None:
    (written,) = re.findall(r"```yaml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert list(loads(written).agents.definitions) == ["clerk", "pipeline"]


def test_the_commands_in_the_documentation_are_there() -> None:
    """Each `stoker agents ...` in a block of code or between backquotes, as far as its words are words."""
    written = set(re.findall(r"stoker agents((?: (?:runs|schedules))? [a-z]+)", DOCS.read_text()))
    assert {" run", " check", " runs approve", " runs answer", " schedules create"} <= written
    group = cast(click.Group, stoker.commands["agents"])
    for words in written:
        found: click.Command = group
        for word in words.split():
            found = cast(click.Group, found).commands[word]


def test_a_tree_says_what_failed_what_is_open_and_what_was_tried_again() -> None:
    told = Events()
    for _ in range(2):
        told.add(1, "step.started", 1, worker="w")
    error = {"code": "model_not_found", "message": "no"}
    told.add(2, "model.completed", 1, model="none", node="m", started_at=T0 + 1, error=error)
    told.add(2, "tool.started", 1, call="a", tool="\x1b[31mred", arguments={"text": "one\ntwo " + "x" * 100})
    assert tree_of(spans_of(a_run(), told.all)) == [
        "researcher run_01  ...",
        "└─ step 1  (tried 2 times)  ...",
        "   ├─ model none  0 in, 0 out  failed: model_not_found" + " " * 39 + "1.0 s",
        '   └─ tool \\x1b[31mred {"text":"one\\ntwo ' + "x" * 41 + "…  ...",
    ]
    lost = [{**span, "parent": "gone"} for span in spans_of(*a_story()[1])[:1]]
    assert tree_of(lost) == ["helper run_01.1     3.0 s"]


@pytest.mark.parametrize(
    ("count", "text"),
    [(0.04, "0.0 s"), (59.94, "59.9 s"), (61, "1m 1s"), (3600, "1h 0m"), (200_000, "2d 7h")],
)
def test_durations(count: float, text: str) -> None:
    assert seconds(count) == text


async def test_agents_are_listed_and_shown(agents: Agents) -> None:
    agents.service.answers["GET /v1/agents"] = {"object": "list", "data": [RESEARCHER]}
    agents.service.answers["GET /v1/agents/researcher"] = RESEARCHER
    listed = await agents.says("list")
    assert listed == await agents.says()
    assert listed == Typed(0, "agent       model  tools       description\nresearcher  auto   calculator  Reads.\n", "")
    assert json.loads((await agents.says("--json")).out) == {"agents": [RESEARCHER]}
    assert (await agents.says("show", "researcher")).out == (
        "name        researcher\n"
        "description Reads.\n"
        "model       auto\n"
        "limits      usd 1.0, steps 50\n"
        "grants      -\n"
        "\n"
        "tool        effect  repeatable  approval  description\n"
        "calculator  read    yes         never     Arithmetic.\n"
    )


async def test_a_run_is_started_followed_and_its_output_printed(agents: Agents, tmp_path: Path) -> None:
    put(agents, *a_story())
    agents.service.answers["POST /v1/agents/researcher/runs"] = a_run(status="queued")
    said = await agents.says("run", "researcher", "how many?", "--usd", "0.5", "--grant", "mail", "--thread", "t1")
    assert said == Typed(
        0,
        "42\n",
        "run run_01\n"
        "model small  1000 in, 40 out  $0.001  1.5 s  -> calculator, helper\n"
        'tool calculator {"expression":"6*7"} -> 42  0.5 s\n'
        "helper is run_01.1\n"
        "  model large  210 in, 5 out  $0.00025  1.0 s\n"
        "  completed\n"
        "goes on\n"
        'tool helper {"input":"check 42"} -> yes  4.0 s\n'
        'waits: approval mail {"to":"ada@example.com"} (send it?)\n'
        "goes on\n"
        "completed\n",
    )
    body = {"input": "how many?", "thread": "t1", "limits": {"usd": 0.5}, "grants": ["mail"]}
    assert agents.service.asked[0] == ("POST", "/v1/agents/researcher/runs", body)

    state = tmp_path / "state.json"
    state.write_text('{"messages": [], "depth": 2}')
    assert await agents.sent("run", "researcher", "--file", str(state), "--no-wait") == (
        "POST",
        "/v1/agents/researcher/runs",
        {"input": {"messages": [], "depth": 2}},
    )
    image = tmp_path / "one.png"
    image.write_bytes(b"\x89PNG\r\n\x1a\n")
    _, _, body = await agents.sent("run", "researcher", "what is it?", "--image", str(image), "--no-wait")
    assert body["input"][0]["content"] == [
        {"type": "text", "text": "what is it?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    assert (await agents.says("run", "researcher", "x", "--no-wait")).out == "run_01\n"
    wrong = await agents.says("run", "researcher")
    assert (wrong.code, wrong.err) == (2, "error: give either TEXT or --file\n\nhint: `--file -` reads stdin\n")


async def test_a_run_that_failed_is_exit_code_1_and_says_why(agents: Agents) -> None:
    error = {"code": "budget_exhausted", "message": "the run has used its $1"}
    told = Events()
    told.add(3, "run.failed", error=error)
    put(agents, (a_run(status="failed", error=error, output=None), told.all))
    said = await agents.says("runs", "follow", RUN)
    assert said == Typed(1, "", "failed: the run has used its $1\nrun_01 failed: the run has used its $1\n")


async def test_a_stream_that_breaks_is_taken_up_where_it_was(agents: Agents) -> None:
    run_, events = a_story()[1]
    put(agents, ({**run_, "id": CHILD, "status": "running"}, events))
    agents.service.cuts = [4, 0]
    following = asyncio.create_task(agents.says("runs", "follow", CHILD))
    said = await following
    assert agents.service.last_event_ids == [None, "4", "4"]
    assert said.err.startswith("model large  210 in, 5 out  $0.00025  1.0 s\ncompleted\n")

    agents.service.cuts = [1, 0, 0, 0]
    agents.service.last_event_ids.clear()
    lost = await agents.says("runs", "follow", CHILD)
    assert (lost.code, agents.service.last_event_ids) == (1, [None, "1", "1"])
    assert lost.err == (
        "error: the stream of events broke off\n\nhint: the run may go on: `stoker agents runs follow run_01.1`\n"
    )


async def test_a_run_that_waits_for_a_person_says_how_to_answer_and_is_no_failure(agents: Agents) -> None:
    told = Events()
    told.add(9, "run.waiting", waits=[MAIL])
    put(agents, (a_run(status="waiting", output=None, waiting_for=[MAIL]), told.all))
    said = await agents.says("runs", "follow", RUN)
    assert said == Typed(
        0,
        "",
        'waits: approval mail {"to":"ada"} (send it?)\n'
        'run_01 waits for approval of mail {"to":"ada"}: send it?\n'
        "answer with: stoker agents runs approve run_01   (or reject)\n",
    )


async def test_a_sub_agent_that_waits_for_a_person_is_told_of_by_the_run_above_it(agents: Agents) -> None:
    child_wait = {"id": "w1", "kind": "child", "tool": "helper", "arguments": {}, "message": None, "child": CHILD}
    above, below = Events(), Events(CHILD)
    above.add(1, "run.waiting", waits=[child_wait])
    below.add(2, "run.waiting", waits=[MAIL])
    put(agents, (a_run(status="waiting", waiting_for=[child_wait]), above.all))
    put(agents, (a_run(id=CHILD, status="waiting", waiting_for=[MAIL]), below.all))
    said = await agents.says("runs", "follow", RUN)
    assert (said.code, said.err.splitlines()) == (
        0,
        [
            "helper is run_01.1",
            '  waits: approval mail {"to":"ada"} (send it?)',
            'run_01.1 waits for approval of mail {"to":"ada"}: send it?',
            "answer with: stoker agents runs approve run_01.1   (or reject)",
        ],
    )
    refused = await agents.says("runs", "approve", RUN)
    assert (refused.code, refused.err) == (
        1,
        "error: run run_01 waits for no approval and no uncertain\n\n"
        "hint: it waits for its sub-agents: `stoker agents runs show run_01.1` says what that one waits for\n",
    )


def test_ctrl_c_leaves_a_run_going_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(agents_follow._Follower, "follow", interrupted)
    assert run(["agents", "runs", "follow", RUN, "--url", "http://127.0.0.1:1", "--key", "k"]) == 130
    assert capsys.readouterr().err.strip() == (
        "run_01 goes on; `stoker agents runs follow run_01` follows it, `stoker agents runs cancel run_01` ends it"
    )


async def test_runs_are_listed_and_shown_with_what_they_cost(agents: Agents) -> None:
    agents.service.answers["GET /v1/agents/runs"] = {
        "object": "list",
        "data": [a_run(), a_run(id="run_02", status="waiting", waiting_for=[MAIL])],
    }
    assert (await agents.says("runs", "list", "--status", "waiting")).out == (
        "id      agent       status     created              steps  tokens   dollars  why\n"
        "run_01  researcher  completed  2025-11-24 16:00:00      3    1255  $0.00125  -\n"
        "run_02  researcher  waiting    2025-11-24 16:00:00      3    1255  $0.00125  approval: mail\n"
    )
    assert agents.service.asked[-1][1] == "/v1/agents/runs?status=waiting&limit=20"
    agents.service.answers["GET /v1/agents/researcher/runs"] = {"object": "list", "data": []}
    assert (await agents.sent("runs", "list", "researcher", "--thread", "t"))[1] == (
        "/v1/agents/researcher/runs?thread=t&limit=20"
    )

    put(agents, *a_story())
    spans = tree_spans(a_story())
    agents.service.answers[f"GET /v1/agents/runs/{RUN}/trace"] = {"object": "list", "data": spans}
    said = await agents.says("runs", "show", RUN)
    assert said.out == (
        "run      run_01\n"
        "agent    researcher\n"
        "status   completed\n"
        "thread   thread_1\n"
        "created  2025-11-24 16:00:00\n"
        "ended    2025-11-24 16:00:20\n"
        "input    how many?\n"
        "output   42\n"
        "used     3 steps, 2 model calls, 3 tool calls, 1210 tokens in, 45 out, $0.00125\n"
        "limits   usd 1.0, steps 50\n\n" + TREE
    )
    assert json.loads((await agents.says("runs", "show", RUN, "--json")).out) == {**a_run(), "trace": spans}


async def test_what_a_person_says_goes_to_the_wait_that_is_meant(agents: Agents) -> None:
    other = {**MAIL, "id": "w3", "tool": "pay"}
    question = {"id": "w4", "kind": "question", "tool": None, "arguments": None, "message": "which?", "child": None}
    lost = {**MAIL, "id": "w5", "kind": "uncertain", "message": None}
    put(agents, (a_run(status="waiting", waiting_for=[MAIL]), []))
    path = f"/v1/agents/runs/{RUN}/resume"

    agents.service.runs[RUN]["waiting_for"] = [MAIL, other]
    yes, no = {"decision": "approve"}, {"decision": "reject", "message": "too dear"}
    assert await agents.sent("runs", "approve", RUN) == ("POST", path, {"answers": {"w2": yes, "w3": yes}})
    assert await agents.sent("runs", "reject", RUN, "--wait", "w3", "--message", "too dear") == (
        "POST",
        path,
        {"answers": {"w3": no}},
    )
    changed = ["--arguments", '{"to": "bob"}']
    several = await agents.says("runs", "approve", RUN, *changed)
    assert (several.code, several.err) == (
        2,
        "error: run run_01 has 2 open waits, and this is an answer to one\n\nhint: name one with --wait: w2, w3\n",
    )
    answers = {"w2": {"decision": "approve", "arguments": {"to": "bob"}}}
    assert await agents.sent("runs", "approve", RUN, "--wait", "w2", *changed) == ("POST", path, {"answers": answers})

    agents.service.runs[RUN]["waiting_for"] = [question]
    assert (await agents.sent("runs", "answer", RUN, "the red one"))[2] == {"answers": {"w4": "the red one"}}
    assert (await agents.sent("runs", "answer", RUN, "[1, 2]"))[2] == {"answers": {"w4": [1, 2]}}
    assert "stoker agents runs answer run_01 VALUE" in (await agents.says("runs", "approve", RUN)).err
    agents.service.runs[RUN]["waiting_for"] = [lost]
    done, again, gone = {"decision": "done", "result": "7"}, {"decision": "retry"}, {"decision": "fail"}
    assert (await agents.sent("runs", "answer", RUN, "7"))[2] == {"answers": {"w5": done}}
    assert (await agents.sent("runs", "approve", RUN))[2] == {"answers": {"w5": again}}
    assert (await agents.sent("runs", "reject", RUN))[2] == {"answers": {"w5": gone}}

    agents.service.runs[RUN].update(status="completed", waiting_for=[])
    late = await agents.says("runs", "reject", RUN)
    assert (late.code, late.err.splitlines()[0]) == (1, "error: run run_01 is completed; it waits for nobody")
    wrong = await agents.says("runs", "approve", RUN, "--arguments", "[]")
    assert (wrong.code, wrong.err.splitlines()[0]) == (2, "error: --arguments is '[]'; it has to be a JSON object")


async def test_runs_are_cancelled_and_resumed_and_schedules_kept(agents: Agents) -> None:
    put(agents, (a_run(status="cancelled", output=None), []))
    assert await agents.sent("runs", "cancel", RUN) == ("POST", f"/v1/agents/runs/{RUN}/cancel", None)
    assert await agents.sent("runs", "resume", RUN) == ("POST", f"/v1/agents/runs/{RUN}/resume", {})

    made = {"id": "sched_1", "cron": "0 7 * * 1-5", "timezone": "Europe/Berlin", "input": "news?", "next_at": T0}
    path = "/v1/agents/researcher/schedules"
    agents.service.answers[f"POST {path}"] = made
    agents.service.answers[f"GET {path}"] = {"object": "list", "data": [made]}
    agents.service.answers[f"DELETE {path}/sched_1"] = {"deleted": True}
    said = await agents.says("schedules", "create", "researcher", "0 7 * * 1-5", "news?", "--timezone", "Europe/Berlin")
    assert said.out == "sched_1  next 2025-11-24 16:00:00\n"
    body = {"cron": "0 7 * * 1-5", "input": "news?", "timezone": "Europe/Berlin"}
    assert agents.service.asked[-1] == ("POST", path, body)
    assert (await agents.says("schedules", "list", "researcher")).out == (
        "id       cron         timezone       next                 input\n"
        "sched_1  0 7 * * 1-5  Europe/Berlin  2025-11-24 16:00:00  news?\n"
    )
    assert (await agents.sent("schedules", "delete", "researcher", "sched_1"))[:2] == ("DELETE", f"{path}/sched_1")


CHECKED = """
agents:
  definitions:
    assistant: {tools: [calculator, notes, mail, site], grants: [mail], grantable: [notes], limits: {usd: 1}}
    custom: {graph: graphs/x.py:graph}
  tools:
    notes: {workspace: {}}
    mail: {python: "tools.py:send_mail", effect: write}
    site: {mcp: {command: [no-such-program], env: {TOKEN: SITE_TOKEN}}}
    papers: {search: {path: papers}}
"""


def test_check_says_what_will_be_and_what_is_not_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SITE_TOKEN", raising=False)
    file = tmp_path / "platform.yaml"
    file.write_text(CHECKED)
    (tmp_path / "tools.py").write_text("def send_post(): raise SystemExit('it was run')\n")
    assert run(["agents", "check", "-f", str(file)]) == 1
    said = capsys.readouterr()
    assert said.out == (
        "agent      graph              model  tools                          dollars  steps\n"
        "assistant  stoker's own       auto   calculator, notes, mail, site    $1.00     50\n"
        "custom     graphs/x.py:graph  auto   -                                    -     50\n"
        "\n"
        "tool        kind        effect                repeatable  approval        trusted  granted to  on request\n"
        "calculator  calculator  read                  yes         never           yes      -           -\n"
        "notes       workspace   read; write to write  yes         by effect       yes      -           assistant\n"
        "mail        python      write                 no          afterUntrusted  yes      assistant   -\n"
        "site        mcp         as its server says    by effect   by effect       no       -           -\n"
        "papers      search      read                  yes         never           yes      -           -\n"
    )
    assert said.err.splitlines() == [
        f"platform: {file}",
        f"error: agents.definitions.custom.graph: {tmp_path}/graphs/x.py cannot be read: No such file or directory",
        f"error: agents.tools.mail.python: {tmp_path}/tools.py defines no send_mail",
        "error: agents.tools.site.mcp.command: there is no program 'no-such-program'",
        "error: agents.tools.site.mcp.env.TOKEN: the variable SITE_TOKEN is not set here",
        f"error: agents.tools.papers.search.path: there is no {tmp_path}/papers",
    ]


def test_check_is_content_with_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SITE_TOKEN", "x")
    file = tmp_path / "platform.yaml"
    file.write_text(CHECKED.replace("no-such-program", "sh"))
    (tmp_path / "tools.py").write_text("if True:\n    from smtp import mail as send_mail\n")
    (tmp_path / "graphs").mkdir()
    (tmp_path / "graphs" / "x.py").write_text("graph = None\n")
    (tmp_path / "papers").mkdir()
    assert run(["agents", "check", "-f", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["faults"], [each["agent"] for each in said["agents"]]) == ([], ["assistant", "custom"])
    assert said["tools"][2] == {
        "tool": "mail",
        "kind": "python",
        "effect": "write",
        "repeatable": False,
        "approval": "afterUntrusted",
        "trusted": True,
        "agents": ["assistant"],
        "granted": ["assistant"],
        "grantable": [],
    }


def test_check_names_a_graph_that_no_installed_package_offers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "platform.yaml"
    file.write_text("agents: {definitions: {custom: {graph: 'entry-point:nowhere'}}}")
    assert run(["agents", "check", "-f", str(file)]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: agents.definitions.custom.graph: no installed package offers 'nowhere'; there is: nothing"
    )
