"""The verdict: what passes, what fails, and what it says. Planted bugs on real platforms: tests/flow/test_drill.py."""

from typing import Any

import pytest
from drill_parts import LIMIT, Story, ask, record

from stoker.drill.observed import Kill, Notice, SeenTask, Try
from stoker.drill.verdicts import judge


def test_a_drill_in_which_all_went_well_passes() -> None:
    verdict = Story().verdict

    assert verdict.passed
    assert {check.name: check.said for check in verdict.checks} == {
        "under load": "worker-general-1 killed; 5 of the load were open",
        "requests": "3 of 3 answered",
        "restarted": "ready again after 1.0 s",
        "stall": "longest time without an end or a token 0.8 s; first end 0.5 s after the kill",
        "nothing lost": "2 submitted = 2 done + 0 dead + 0 pending",
        "all done": "2 tasks done, none dead, none pending",
        "exactly once": "0 duplicates: 6 usage records, each of one request or task",
        "answers": "2 compared with the calm, all the same; 5 different ones in all",
        "budget": "180 tokens in its books, in the ledger and in 6 records; 180 told",
    }
    assert verdict.as_json(seed=7)["verdict"] == "pass"
    assert verdict.as_json(seed=7)["seed"] == 7
    evidence = verdict.evidence
    assert {name: evidence[name] for name in ("submitted", "done", "dead", "pending", "lost", "duplicates")} == {
        "submitted": 2,
        "done": 2,
        "dead": 0,
        "pending": 0,
        "lost": 0,
        "duplicates": 0,
    }
    assert evidence["tokens"] == {
        "told": 180,
        "billed": 180,
        "billed_not_told": 0,
        "generated": 60,
        "recomputed": 0,
    }
    assert evidence["budget"] == {"limit": LIMIT, "left": LIMIT - 180, "spent": 180, "reserved": 0}
    assert evidence["longest_stall_s"] == 0.8
    assert evidence["killed"][0]["back_after_s"] == 1.0


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_task_that_the_platform_does_not_know_is_lost() -> None:
    story = Story()
    del story.tasks["req_1"]

    assert story.failed == {"nothing lost": "2 submitted = 1 done + 0 dead + 0 pending; and 1 lost"}
    assert story.verdict.evidence["lost"] == 1


def test_a_task_that_is_done_without_a_result_is_lost() -> None:
    """A worker that acknowledges before it stores, and is killed in between."""
    story = Story()
    story.asks[1] = ask(1, "task", answer=None, told=None)
    story.task("req_1", answer=None)

    assert story.failed == {
        "nothing lost": "2 submitted = 1 done + 0 dead + 0 pending; and 1 done without a result",
        "answers": "1 wrong of 2 compared: req_1 is done and says nothing",
    }


def test_a_task_whose_end_was_told_and_is_taken_back_is_no_task_that_is_done() -> None:
    story = Story()
    story.task("req_1", state="queued", answer=None)

    assert story.failed == {"nothing lost": "2 submitted = 1 done + 0 dead + 0 pending; and 1 told done and queued"}


def test_a_dead_task_is_counted_and_fails_with_its_cause() -> None:
    story = Story()
    story.asks[1] = ask(1, "task", end="dead", answer=None, told=None)
    story.task("req_1", state="dead", answer=None, failures=("lease expired",), error="it killed its worker")

    assert story.failed == {"all done": "1 tasks are not done: req_1 is dead: it killed its worker"}
    assert story.verdict.evidence["dead"] == 1


def test_a_task_that_still_runs_is_pending() -> None:
    story = Story()
    story.asks[1] = ask(1, "task", end="open", ended_at=None, answer=None, told=None)
    story.task("req_1", state="running", answer=None)
    story.records = [each for each in story.records if each.id != "req_1"]

    assert story.failed == {"all done": "1 tasks are not done: req_1 is running still at general-1"}
    assert story.verdict.evidence["pending"] == 1


def test_a_task_that_was_never_taken_is_no_task_and_a_failed_request() -> None:
    story = Story()
    refused = Try(request_id="req_1", outcome="refused", status=500, code="internal_error")
    story.asks[1] = ask(1, "task", end="refused", task_id=None, answer=None, told=None, tries=[refused])
    del story.tasks["req_1"]
    story.records = [each for each in story.records if each.id != "req_1"]

    assert story.failed == {"requests": "1 failed: task drill_1-1 was refused 500 internal_error"}
    assert story.verdict.evidence["submitted"] == 1


def test_a_task_that_could_not_be_submitted_in_time_is_a_failed_request() -> None:
    story = Story()
    story.asks[1] = ask(1, "task", end="open", ended_at=None, task_id=None, answer=None, told=None, tries=[Try()])
    del story.tasks["req_1"]
    story.records = [each for each in story.records if each.id != "req_1"]

    assert story.failed == {"requests": "1 failed: task drill_1-1 was not answered in time"}


# --- once -------------------------------------------------------------------------------------------------------------


def test_a_second_record_of_a_task_is_a_duplicate() -> None:
    """A worker that completes twice, and charges twice."""
    story = Story()
    story.records.append(record("req_1_again", "drill_1-1"))

    assert story.failed == {"exactly once": "1 times not: req_1_again is a second record of req_1"}
    assert story.verdict.evidence["duplicates"] == 1


def test_a_second_task_of_one_submission_is_a_duplicate() -> None:
    story = Story()
    story.tasks["req_9"] = SeenTask("req_9", "drill_1-1", "done", answer="1 apples")

    assert story.failed == {"exactly once": "1 times not: req_9 is a second task of drill_1-1"}


def test_a_result_that_was_replaced_is_told() -> None:
    story = Story()
    story.task("req_1", answer="9 apples")

    assert story.failed == {"exactly once": "1 times not: req_1 has another result than its client was told"}


def test_an_answer_without_a_record_was_free() -> None:
    story = Story()
    story.records = [each for each in story.records if each.id not in ("req_1", "req_2")]

    assert story.failed == {"exactly once": "2 times not: req_1 has no usage record, req_2 has no usage record"}


def test_a_record_of_nobody_is_told() -> None:
    story = Story()
    story.records.append(record("req_9", "drill_1-9"))

    assert story.failed == {"exactly once": "1 times not: req_9 is of no request of the drill"}


def test_a_request_that_was_cut_off_may_have_a_record_that_nobody_can_name_but_not_two() -> None:
    story = Story(target="gateway")
    story.asks[2] = ask(2, "chat", end="cut", answer=None, told=None, tries=[Try(outcome="cut", code="unavailable")])
    assert story.failed == {}

    story.records.append(record("req_8", "drill_1-2"))
    assert story.failed == {"exactly once": "1 times not: req_8 is one record too many of drill_1-2"}


def test_an_attempt_that_an_engine_lost_has_a_record_beside_that_of_the_answer() -> None:
    story = Story(target="engine")
    story.records.append(record("req_2.1", "drill_1-2", status="lost"))
    assert story.failed == {}

    story.records.append(record("req_2.2", "drill_1-2", status="done"))
    assert list(story.failed) == ["exactly once"]


# --- answers ----------------------------------------------------------------------------------------------------------


def test_an_answer_of_another_prompt_is_wrong() -> None:
    story = Story()
    story.asks[0].answer = "1 apples"
    story.task("req_0", answer="1 apples")

    assert story.failed == {
        "answers": "1 wrong of 2 compared: task req_0 says '1 apples', in the calm '0 apples'",
    }


def test_an_answer_with_a_seam_is_told() -> None:
    story = Story(seams={0: 12})

    said = {check.name: check.said for check in story.verdict.checks}["answers"]
    assert said == (
        "2 compared with the calm, all the same; 5 different ones in all; "
        "1 as a replica says it in the calm that goes on with its beginning"
    )
    assert story.verdict.evidence["answers_gone_on_with"] == {"req_0": 12}


# --- money ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"left": LIMIT - 150}, "usage records have 180 tokens, but of the budget: 150 are taken of it"),
        ({"left": LIMIT - 210}, "usage records have 180 tokens, but of the budget: 210 are taken of it"),
        ({"spent": 150}, "usage records have 180 tokens, but the ledger's sum is 150"),
        ({"reserved": 30}, "usage records have 180 tokens, but 30 are set aside for nobody"),
    ],
)
def test_books_that_do_not_agree(changes: dict[str, Any], said: str) -> None:
    """A platform that loses settlements, or makes them twice."""
    assert Story(**changes).failed == {"budget": said}


def test_a_budget_of_which_nobody_says_what_is_left() -> None:
    story = Story()
    observed = story.observed
    observed.budget = None

    assert [check.said for check in judge(observed).checks if not check.ok] == ["what is left of it is not known"]


def test_who_was_told_less_than_was_billed_was_charged_for_something_else() -> None:
    story = Story()
    story.records[1] = record("req_1", "drill_1-1", tokens=60)

    assert story.failed == {"budget": "usage records have 210 tokens, but req_1 was billed 60 and told 30"}


def test_who_was_told_more_than_was_billed_had_something_for_nothing() -> None:
    story = Story()
    story.records[2] = record("req_2", "drill_1-2", tokens=25)

    assert story.failed == {"budget": "usage records have 175 tokens, but req_2 was billed 25 and told 30"}


def test_attempts_that_were_lost_are_paid_for_beside_the_one_that_was_told() -> None:
    story = Story()
    story.records[1] = record("req_1", "drill_1-1", tokens=90, attempts=2)
    story.generated = 75

    assert story.failed == {}
    assert story.verdict.evidence["tokens"] == {
        "told": 180,
        "billed": 240,
        "billed_not_told": 60,
        "generated": 75,
        "recomputed": 15,
    }


def test_engines_that_do_not_count_leave_it_open_what_was_computed_again() -> None:
    assert Story(generated=None).verdict.evidence["tokens"]["recomputed"] is None


# --- requests ---------------------------------------------------------------------------------------------------------


def cut(number: int, kind: str, **changes: Any) -> Any:
    tried = Try(request_id=f"req_{number}", outcome="cut", code="unavailable")
    return ask(number, kind, **{"end": "cut", "answer": None, "told": None, "tries": [tried], **changes})


@pytest.mark.parametrize(
    ("target", "may_break"),
    [("worker", ()), ("redis", ()), ("spot", ("stream",)), ("engine", ("stream",)), ("gateway", ("chat", "stream"))],
)
def test_what_may_break_off_with_whom(target: Any, may_break: tuple[str, ...]) -> None:
    for kind, number in (("chat", 2), ("stream", 3), ("resumable", 4)):
        story = Story(target=target, calm={})
        story.asks[number] = cut(number, kind)

        assert ("requests" not in story.failed) == (kind in may_break), kind


def test_what_broke_off_long_before_or_after_the_kill_broke_for_another_reason() -> None:
    for began_at, ended_at in ((0.5, 1.4), (2.1, 3.0)):
        story = Story(target="gateway", calm={})
        story.asks[3] = cut(3, "stream", began_at=began_at, ended_at=ended_at)
        assert story.failed == {"requests": "1 failed: stream drill_1-3 was cut unavailable"}


def test_a_killed_gateway_takes_connections_for_a_moment_more() -> None:
    story = Story(target="gateway", calm={})
    story.asks[3] = cut(3, "stream", began_at=1.6, ended_at=1.7)

    assert story.failed == {}
    said = {check.name: check.said for check in story.verdict.checks}
    assert said["requests"] == "2 of 3 answered, 1 cut off with the gateway, as they may be"


def test_a_request_that_was_told_to_ask_again_and_did_has_not_failed() -> None:
    story = Story()
    later = Try(request_id="req_x", outcome="refused", status=503, code="engine_unavailable")
    story.asks[2].tries.insert(0, later)

    assert story.failed == {}
    assert story.verdict.evidence["asked_again"] == {"503 engine_unavailable": 1}


def test_a_request_that_nobody_answered_in_time() -> None:
    story = Story(calm={})
    story.asks[2] = ask(2, "chat", end="open", ended_at=None, answer=None, told=None, tries=[Try()])
    story.records = [each for each in story.records if each.id != "req_2"]

    assert story.failed == {"requests": "1 failed: chat drill_1-2 was not answered in time"}


# --- who died ---------------------------------------------------------------------------------------------------------


def test_nothing_killed_or_nothing_open_proves_nothing() -> None:
    assert Story(kills=[]).failed == {"under load": "nothing was killed"}
    idle = Story(kills=[Kill("gateway", 100, 1.5, 0, back_at=2.0)])
    assert idle.failed == {
        "under load": "gateway killed; 0 of the load were open, so it proves nothing: give it more --tasks"
    }


def test_who_does_not_come_back_or_comes_late() -> None:
    kills = [Kill("engine-general-1", 100, 1.5, 5, back_at=40.0), Kill("worker-general-1", 101, 1.5, 5)]

    assert Story(kills=kills).failed == {
        "restarted": "worker-general-1 is not back; engine-general-1 came back after 38.5 s; 30 s are allowed"
    }


def test_a_long_silence_fails() -> None:
    """Longer than is allowed, and than the killed one was away."""
    assert Story(beats=[1.2, 12.1]).failed == {}
    assert Story(beats=[1.2, 13.0]).failed == {
        "stall": "longest time without an end or a token 11.8 s; first end 0.5 s after the kill; 11.0 s are allowed"
    }


def test_a_platform_that_does_not_say_what_became_of_the_load_fails() -> None:
    story = Story(trouble="cannot reach the gateway")

    assert story.failed == {"platform": "it does not say what became of the load: cannot reach the gateway"}
    assert [story.verdict.evidence[name] for name in ("submitted", "done", "lost")] == [2, None, None]


# --- a machine that is taken away -------------------------------------------------------------------------------------


def spot(**changes: Any) -> Story:
    told: dict[str, Any] = {"given_at": 1.0, "ends_at": 11.0, "out_at": 1.4, "open_asks": 9}
    return Story(target="spot", notice=Notice("worker-general-1", "general-1", **{**told, **changes}))


def test_a_worker_that_leaves_in_time() -> None:
    story = spot()

    assert story.failed == {}
    said = {check.name: check.said for check in story.verdict.checks}
    assert said["left in time"] == "general-1 was sent nothing more 0.4 s after its notice, which gave it 10 s"
    assert said["no failed attempts"] == "whatever ran there was finished or handed back"
    assert story.verdict.evidence["left_registry_after_s"] == 0.4


@pytest.mark.parametrize("out_at", [None, 11.1])
def test_a_worker_that_stays(out_at: float | None) -> None:
    assert spot(out_at=out_at).failed == {
        "left in time": "general-1 was still sent requests at the end of its notice of 10 s"
    }


def test_a_notice_to_an_idle_machine_proves_nothing() -> None:
    """Whatever is open when the machine goes: by then it may all be elsewhere."""
    assert list(spot(open_asks=0).failed) == ["under load"]
    story = spot()
    for kill in story.kills:
        kill.open_asks = 0
    assert story.failed == {}


def test_a_task_that_was_lost_with_the_machine_has_a_failed_attempt() -> None:
    story = spot()
    story.task("req_1", failures=("lease expired: worker general-1 did not renew it",))

    assert story.failed == {
        "no failed attempts": "1 tasks had one: req_1: lease expired: worker general-1 did not renew it"
    }


def test_what_was_handed_back_is_paid_once_where_it_can_be_gone_on_with() -> None:
    for goes_on in (True, False):
        story = spot()
        story.goes_on = goes_on
        story.records[1] = record("req_1", "drill_1-1", tokens=60)

        why = {"budget": "usage records have 210 tokens, but req_1 was billed 60 and told 30"}
        assert story.failed == (why if goes_on else {})
