"""Events in, spans out: what is below what, when it was, what it cost."""

from agents_stories import CHILD, RUN, T0, Events, Json, a_run, a_story

from stoker.agents.spans import MOST_CONTENT, span_id_of, spans_of, trace_id_of, tree_spans


def outline(spans: list[Json]) -> list[tuple[str, str | None, float, float | None, str]]:
    names = {span["id"]: span["name"] for span in spans}
    return [
        (
            span["name"],
            names.get(span["parent"]),
            span["started_at"] - T0,
            None if span["ended_at"] is None else span["ended_at"] - T0,
            span["status"],
        )
        for span in spans
    ]


def test_a_run_and_its_sub_agent_are_one_trace() -> None:
    assert outline(tree_spans(a_story())) == [
        ("invoke_agent researcher", None, 0, 20, "ok"),
        ("step 1", "invoke_agent researcher", 1, 3, "ok"),
        ("chat small", "step 1", 1.5, 3, "ok"),
        ("step 2", "invoke_agent researcher", 3, 4, "ok"),
        ("execute_tool calculator", "step 2", 3, 3.5, "ok"),
        ("execute_tool helper", "step 2", 4, 8, "ok"),
        ("step 3", "invoke_agent researcher", 8, 8.5, "ok"),
        ("wait approval", "invoke_agent researcher", 9, 19, "ok"),
        ("invoke_agent helper", "execute_tool helper", 4, 7, "ok"),
        ("step 1", "invoke_agent helper", 5, 7, "ok"),
        ("chat large", "step 1", 6, 7, "ok"),
    ]


def test_attributes_are_those_of_the_conventions() -> None:
    own, step, model, _, tool, call, _, wait = (span["attributes"] for span in spans_of(*a_story()[0]))
    assert own == {
        "stoker.run": RUN,
        "gen_ai.operation.name": "invoke_agent",
        "gen_ai.provider.name": "stoker",
        "gen_ai.agent.name": "researcher",
        "gen_ai.conversation.id": "thread_1",
        "gen_ai.input.messages": '[{"role":"user","parts":[{"type":"text","content":"how many?"}]}]',
        "gen_ai.output.messages": '[{"role":"assistant","parts":[{"type":"text","content":"42"}]}]',
    }
    assert step == {
        "stoker.run": RUN,
        "stoker.step": 1,
        "stoker.attempts": 1,
        "stoker.worker": "w-1",
        "stoker.nodes": ["model"],
    }
    assert model == {
        "stoker.run": RUN,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "stoker",
        "gen_ai.request.model": "small",
        "gen_ai.response.model": "small",
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.cache_read.input_tokens": 400,
        "gen_ai.usage.output_tokens": 40,
        "gen_ai.response.finish_reasons": ["tool_calls"],
        "stoker.cost_usd": 0.001,
        "stoker.node": "model",
    }
    assert tool == {
        "stoker.run": RUN,
        "gen_ai.operation.name": "execute_tool",
        "gen_ai.tool.name": "calculator",
        "gen_ai.tool.call.id": "call_a",
        "gen_ai.tool.call.arguments": '{"expression":"6*7"}',
        "gen_ai.tool.call.result": "42",
        "stoker.attempts": 1,
    }
    assert call["stoker.child"] == CHILD
    assert wait == {
        "stoker.run": RUN,
        "stoker.wait": "w2",
        "stoker.wait.kind": "approval",
        "gen_ai.tool.name": "mail",
        "gen_ai.tool.call.arguments": '{"to":"ada@example.com"}',
        "stoker.wait.message": "send it?",
        "stoker.wait.decision": "reject",
        "stoker.wait.answer": '{"decision":"reject","message":"no mails"}',
    }


def test_ids_are_of_the_run_and_its_events_and_nothing_else() -> None:
    first, again = tree_spans(a_story()), tree_spans(a_story())
    assert first == again
    assert len({span["id"] for span in first}) == len(first) == 11
    assert trace_id_of(CHILD) == trace_id_of(RUN) == "29996da7b5f2ec84ddd7ad70fa27ad83"
    assert trace_id_of("run_02") != trace_id_of(RUN)
    assert first[0]["id"] == span_id_of(RUN, "run")
    assert first[1]["id"] == span_id_of(RUN, 3)


def test_a_running_sub_agent_stands_below_its_call_before_the_call_has_ended() -> None:
    told = Events()
    told.add(1, "step.started", 1, worker="w")
    told.add(1, "tool.started", 1, call="a", tool="helper", arguments={})
    told.add(1, "tool.started", 1, call="b", tool="helper", arguments={})
    told.add(2, "step.completed", 1, nodes=["tools"])
    # The second names its call in its id.
    ids = [(1, "w1"), (2, "b:child")]
    waits = [{"id": id, "kind": "child", "tool": "helper", "child": f"{RUN}.{n}"} for n, id in ids]
    told.add(2, "run.waiting", waits=waits)
    told.add(3, "run.waiting", waits=waits[1:])  # one is there, and the other is told of again
    runs = [(a_run(status="waiting", ended_at=None), told.all)]
    runs += [(a_run(id=f"{RUN}.{n}", agent=f"helper-{n}", created_at=T0 + 2, ended_at=None), []) for n in (1, 2)]

    spans = tree_spans(runs)
    assert outline(spans) == [
        ("invoke_agent researcher", None, 0, None, "open"),
        ("step 1", "invoke_agent researcher", 1, 2, "ok"),
        ("execute_tool helper", "step 1", 1, None, "open"),
        ("execute_tool helper", "step 1", 1, None, "open"),
        ("invoke_agent helper-1", "execute_tool helper", 2, None, "open"),
        ("invoke_agent helper-2", "execute_tool helper", 2, None, "open"),
    ]
    assert [spans[4]["parent"], spans[5]["parent"]] == [spans[2]["id"], spans[3]["id"]]


def test_what_was_begun_again_after_a_death_is_one_span_with_its_attempts() -> None:
    told = Events()
    for worker in ("w-1", "w-2"):
        told.add(1, "step.started", 1, worker=worker)
        told.add(2, "tool.started", 1, call="a", tool="search", arguments={"query": "x"})
    told.add(5, "tool.completed", 1, call="a", tool="search", started_at=T0 + 2, result="no index", is_error=True)
    told.add(5, "step.completed", 1, nodes=["tools"])

    _, step, call = spans_of(a_run(), told.all)
    assert (step["attributes"]["stoker.attempts"], step["attributes"]["stoker.worker"]) == (2, "w-2")
    assert (call["attributes"]["stoker.attempts"], call["status"], call["ended_at"]) == (2, "error", T0 + 5)
    assert call["attributes"]["error.type"] == "tool_error"


def test_how_a_run_ended_closes_what_was_open() -> None:
    told = Events()
    told.add(1, "step.started", 1, worker="w")
    error = {"code": "budget_exhausted", "message": "the run has used its $1"}
    told.add(2, "model.failed", 1, model="small", node="m", started_at=T0 + 1, error=error)
    failed = spans_of(a_run(), [*told.all, Events().add(3, "run.failed", error=error)])
    assert outline(failed) == [
        ("invoke_agent researcher", None, 0, 3, "error"),
        ("step 1", "invoke_agent researcher", 1, 3, "error"),
        ("chat small", "step 1", 1, 2, "error"),
    ]
    assert {span["attributes"]["error.type"] for span in failed} == {"budget_exhausted"}
    assert failed[0]["attributes"]["error.message"] == "the run has used its $1"
    assert "gen_ai.response.model" not in failed[2]["attributes"]

    cancelled = spans_of(a_run(), [Events().add(3, "run.cancelled")])
    assert (cancelled[0]["status"], cancelled[0]["attributes"]["error.type"]) == ("error", "cancelled")


def test_texts_are_cut_and_clocks_of_two_machines_do_not_turn_time_back() -> None:
    told = Events()
    told.add(2, "tool.completed", 1, call="a", tool="fetch", started_at=T0 + 3, result="x" * 5000, is_error=False)
    told.add(2, "something.new", 1)

    _, call = spans_of(a_run(), told.all)
    assert call["attributes"]["gen_ai.tool.call.result"] == "x" * (MOST_CONTENT - 1) + "…"
    assert (call["started_at"], call["ended_at"]) == (T0 + 3, T0 + 3)
