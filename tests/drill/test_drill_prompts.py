from random import Random

from stoker.drill import prompts


def test_the_same_seed_asks_the_same_and_no_two_prompts_or_runs_are_alike() -> None:
    one, again, other = (prompts.asks(200, "drill_1", Random(seed)) for seed in (7, 7, 8))

    assert [ask.prompt for ask in one] == [ask.prompt for ask in again] != [ask.prompt for ask in other]
    assert len({ask.prompt for ask in one}) == len({ask.run for ask in one}) == 200
    assert one[3].run == "drill_1-3"


def test_half_of_the_load_are_tasks_and_every_burst_has_some() -> None:
    load = prompts.asks(40, "drill_1", Random(7))

    assert sum(1 for ask in load if ask.kind == "task") == 20
    assert {ask.kind for ask in load} == {"task", "chat", "stream", "resumable"}
    for burst in prompts.schedule(load, 4.0, 2).bursts:
        assert any(ask.kind == "task" for ask in burst)


def test_each_is_sent_once_evenly_or_in_a_burst_before_an_injection() -> None:
    load = prompts.asks(20, "drill_1", Random(7))

    made = prompts.schedule(load, 6.0, 2)

    assert [len(burst) for burst in made.bursts] == [4, 4]
    assert made.burst_at == [1.5, 3.0]
    assert [at for at, _ in made.paced] == [0.5 * i for i in range(12)]
    sent = [ask.number for burst in made.bursts for ask in burst] + [ask.number for _, ask in made.paced]
    assert sorted(sent) == list(range(20))


def test_an_answer_is_a_function_of_its_prompt() -> None:
    body = prompts.body("Repeat: 7 apples", "general", max_tokens=64, stream=True)

    assert (body["temperature"], body["seed"], body["max_tokens"]) == (0, 1, 64)
    assert body["messages"] == [{"role": "user", "content": "Repeat: 7 apples"}]
    assert body["stream_options"] == {"include_usage": True}
    assert "stream" not in prompts.body("Repeat: 7 apples", "general", max_tokens=64)
