"""platform.yaml into processes."""

import itertools
import sys
from pathlib import Path

import pytest

from stoker import spec
from stoker.base.errors import InvalidInput
from stoker.local import plan
from stoker.local.state import StateDirectory
from stoker.local.supervisor import Launch

STATE = StateDirectory(Path("/state"))


def processes(text: str = "", *, redis_url: str | None = None) -> dict[str, Launch]:
    place = plan.Place(
        STATE,
        "0.0.0.0",
        8080,
        redis_url,
        "sqlite:////state/ledger.sqlite",
        "key-of-engines",
        agents_key="key-of-agents",
        agents_db="sqlite:////state/agents.sqlite",
        base=Path("/home/me/project"),
    )
    ports = itertools.count(7001)
    launches = plan.processes(spec.loads(text), place, free_port=lambda: next(ports))
    return {launch.child.name: launch for launch in launches}


def arguments(launch: Launch, urls: dict[str, str]) -> str:
    """The command line after the interpreter, which is checked here."""
    python, safe, *rest = launch.command(urls).argv
    assert (python, safe) == (sys.executable, "-P")
    return " ".join(rest)


def test_the_defaults_are_redis_three_replicas_and_the_gateway() -> None:
    assert list(processes()) == [
        "redis",
        "engine-general-1",
        "worker-general-1",
        "engine-code-1",
        "worker-code-1",
        "engine-vision-1",
        "worker-vision-1",
        "gateway",
    ]


def test_command_lines_are_the_contract_of_the_decision() -> None:
    launches = processes()
    redis, engine = "unix:///state/redis/redis.sock", "http://127.0.0.1:7001"

    assert arguments(launches["redis"], {}) == "-m stoker.queue.server --dir /state/redis --leash"
    assert arguments(launches["engine-general-1"], {"engine-general-1": engine}) == (
        "-m stoker.engine --model general --task general --host 127.0.0.1 --port 7001 --context 2048"
        " --max-running 8 --leash"
    )
    worker = {"redis": redis, "engine-general-1": engine}
    assert arguments(launches["worker-general-1"], worker) == (
        "-m stoker.worker --spec /state/platform.yaml --model general --replica general-1"
        " --metadata-file /state/metadata/worker-general-1 --metrics-host 127.0.0.1 --metrics-port 0 --leash"
        " --engine-url http://127.0.0.1:7001"
    )
    assert launches["worker-general-1"].command(worker).env == {
        "STOKER_REDIS_URL": redis,
        "STOKER_ENGINE_KEY": "key-of-engines",
    }
    assert arguments(launches["gateway"], {"redis": redis}) == (
        "-m stoker.gateway --spec /state/platform.yaml --host 0.0.0.0 --port 8080 --journals /state/journals --leash"
    )
    assert launches["gateway"].command({"redis": redis}).env == {
        "STOKER_REDIS_URL": redis,
        "STOKER_ENGINE_KEY": "key-of-engines",
        "STOKER_LEDGER_URL": "sqlite:////state/ledger.sqlite",
    }


def test_an_engine_that_moved_is_started_at_its_new_port() -> None:
    moved = {"engine-code-1": "http://127.0.0.1:7999"}

    assert "--port 7999 " in arguments(processes()["engine-code-1"], moved)


def test_who_uses_what() -> None:
    uses = {name: launch.child.uses for name, launch in processes().items()}

    assert uses["redis"] == uses["engine-code-1"] == ()
    assert uses["worker-code-1"] == ("redis", "engine-code-1")
    assert uses["gateway"] == ("redis",)


def test_as_many_replicas_run_as_the_file_says_each_with_a_port_of_its_own() -> None:
    launches = processes("llm: {models: {small: {replicas: {min: 3, max: 5}}}}")

    engines = {name: launch.child.url for name, launch in launches.items() if name.startswith("engine")}
    assert engines == {f"engine-small-{n}": f"http://127.0.0.1:{7000 + n}" for n in (1, 2, 3)}
    assert [name for name in launches if name.startswith("worker")] == [f"worker-small-{n}" for n in (1, 2, 3)]


def test_a_model_with_no_replicas_at_rest_has_none_until_the_autoscaler_starts_one() -> None:
    text = "llm: {models: {small: {replicas: {min: 0, max: 2}}, same: {}}}"

    assert list(processes(text)) == ["redis", "engine-same-1", "worker-same-1", "gateway"]
    assert plan.scaled_models(spec.loads(text)) == ["small"]


def test_a_worker_that_is_not_needed_may_finish_the_longest_that_may_run_there() -> None:
    """A task, or a request that the gateway has sent there."""

    def finish_s(text: str) -> float | None:
        return processes(text)["worker-small-1"].child.finish_s

    assert finish_s("llm: {models: {small: {}}}") == 300.0
    assert finish_s("llm: {models: {small: {limits: {timeoutSeconds: 900}}}}") == 900.0
    assert processes()["engine-code-1"].child.finish_s is None


def test_without_autoscaling_a_model_with_no_replicas_at_rest_runs_one() -> None:
    text = "{keda: {enabled: false}, llm: {models: {small: {replicas: {min: 0, max: 2}}}}}"

    assert "engine-small-1" in processes(text)
    assert plan.scaled_models(spec.loads(text)) == []


def test_a_model_on_a_server_elsewhere_gets_a_worker_and_no_engine() -> None:
    launches = processes('llm: {models: {big: {engine: {url: "http://10.0.0.7:8000/v1"}, replicas: {min: 2, max: 2}}}}')

    assert list(launches) == ["redis", "worker-big-1", "gateway"]
    assert arguments(launches["worker-big-1"], {"redis": "unix:///r"}).endswith(" --engine-url http://10.0.0.7:8000/v1")


def test_a_redis_of_somebody_else_is_used_and_not_started() -> None:
    launches = processes(redis_url="redis://:s3cret@redis.internal:6379/0")
    worker = launches["worker-general-1"].command({"engine-general-1": "http://127.0.0.1:7001"})

    assert "redis" not in launches
    assert launches["gateway"].child.uses == ()
    assert worker.env["STOKER_REDIS_URL"] == "redis://:s3cret@redis.internal:6379/0"
    assert "s3cret" not in " ".join(worker.argv)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://db:6379/0", "redis://:a%2Fb%40c@db:6379/0"),
        ("rediss://me@db:6379", "rediss://me:a%2Fb%40c@db:6379"),
        ("unix:///run/redis.sock", "unix://:a%2Fb%40c@/run/redis.sock"),
        ("postgresql://me@db/stoker", "postgresql://me:a%2Fb%40c@db/stoker"),
    ],
)
def test_a_password_comes_from_the_environment(url: str, expected: str) -> None:
    assert plan.with_password(url, "PW", {"PW": "a/b@c"}, key="redis.passwordEnv") == expected
    assert plan.with_password(url, None, {"PW": "a/b@c"}, key="redis.passwordEnv") == url


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("sqlite:////var/lib/stoker/ledger.sqlite", "sqlite:////var/lib/stoker/ledger.sqlite"),
        ("postgresql://me:secret@db/stoker", "postgresql://me@db/stoker"),
        ("redis://:secret@127.0.0.1:6379/0", "redis://@127.0.0.1:6379/0"),
    ],
)
def test_a_url_is_shown_without_its_password(url: str, shown: str) -> None:
    assert plan.without_password(url) == shown


def test_a_password_that_is_not_set_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match=r"redis.passwordEnv names the environment variable PW, which is not set"):
        plan.with_password("redis://db", "PW", {}, key="redis.passwordEnv")


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
        ("10.0.0.7", "http://10.0.0.7:80"),
    ],
)
def test_the_url_is_one_that_this_machine_can_reach(host: str, url: str) -> None:
    assert plan.local_url(host, 80) == url


def test_the_ledger_is_in_the_state_directory_unless_the_file_says_otherwise() -> None:
    assert plan.ledger_url(spec.loads(""), STATE, {}) == "sqlite:////state/ledger.sqlite"
    own = spec.loads("ledger: {url: 'postgresql://me@db/stoker', passwordEnv: PW}")
    assert plan.ledger_url(own, STATE, {"PW": "x"}) == "postgresql://me:x@db/stoker"


# --- agents -----------------------------------------------------------------------------------------------------------

ONE_MODEL = "llm: {models: {small: {}}}\n"


def test_agents_are_one_more_process_and_their_first_worker_comes_with_the_first_step() -> None:
    text = f"{ONE_MODEL}agents: {{enabled: true}}"

    assert list(processes(text)) == ["redis", "engine-small-1", "worker-small-1", "agents", "gateway"]
    assert plan.scaled_streams(spec.loads(text)) == ["agents"]
    assert plan.scaled_streams(spec.loads(ONE_MODEL)) == []  # not decided: nothing is started
    assert "agents" not in processes(ONE_MODEL)


@pytest.mark.parametrize(
    ("keys", "workers", "scaled"),
    [
        ("agents: {enabled: true, workers: {replicas: {min: 2, max: 4}}}", 2, ["agents"]),
        ("agents: {enabled: true, workers: {replicas: {min: 2, max: 2}}}", 2, []),
        ("{agents: {enabled: true}, keda: {enabled: false}}", 1, []),
        ("{agents: {enabled: true}, keda: {scalers: {redis: false}}}", 1, []),
    ],
)
def test_workers_of_agents_run_where_nothing_would_start_them(keys: str, workers: int, scaled: list[str]) -> None:
    """Redis alone knows how many steps wait."""
    found = [name for name in processes(keys) if name.startswith("worker-agents")]
    assert found == [f"worker-agents-{number}" for number in range(1, workers + 1)]
    assert plan.scaled_streams(spec.loads(keys)) == scaled


def test_command_lines_of_agents_are_the_contract_of_the_decision() -> None:
    launches = processes("agents: {enabled: true, workers: {replicas: {min: 1, max: 2}}}")
    redis = "unix:///state/redis/redis.sock"
    url = launches["agents"].child.url
    urls = {"redis": redis, "agents": "http://127.0.0.1:7999"}  # it has moved

    assert url == "http://127.0.0.1:7004"
    assert arguments(launches["agents"], urls) == (
        "-m stoker.agents --spec /state/platform.yaml --host 127.0.0.1 --port 7999 --leash"
    )
    secrets = {
        "STOKER_REDIS_URL": redis,
        "STOKER_AGENTS_KEY": "key-of-agents",
        "STOKER_AGENTS_DB": "sqlite:////state/agents.sqlite",
    }
    assert launches["agents"].command(urls).env == secrets
    worker = launches["worker-agents-1"]
    assert arguments(worker, urls) == (
        "-m stoker.agents.worker --spec /state/platform.yaml --name agents-1 --folder /state/agents"
        " --base /home/me/project --metadata-file /state/metadata/worker-agents-1"
        " --health-host 127.0.0.1 --health-port 0 --leash"
    )
    assert worker.command(urls).env == {**secrets, "STOKER_GATEWAY_URL": "http://127.0.0.1:8080"}
    gateway = launches["gateway"].command(urls).env
    assert (gateway["STOKER_AGENTS_URL"], gateway["STOKER_AGENTS_KEY"]) == ("http://127.0.0.1:7999", "key-of-agents")


def test_who_uses_what_of_agents() -> None:
    launches = processes("agents: {enabled: true, workers: {replicas: {min: 1, max: 2}}}")

    assert launches["agents"].child.uses == launches["worker-agents-1"].child.uses == ("redis",)
    assert launches["gateway"].child.uses == ("redis", "agents")


def test_a_worker_of_agents_that_is_not_needed_may_finish_its_slowest_tool() -> None:
    def finish_s(tool: str) -> float | None:
        keys = f"tools: {{mine: {tool}}}, workers: {{replicas: {{min: 1, max: 2}}}}"
        return processes(f"agents: {{enabled: true, {keys}}}")["worker-agents-1"].child.finish_s

    assert finish_s("{calculator: true}") == 300.0  # what an answer of a model may take
    assert finish_s("{calculator: true, timeoutSeconds: 900}") == 900.0


def test_runs_are_in_the_state_directory_unless_the_file_says_otherwise() -> None:
    assert plan.agents_url(spec.loads(""), STATE, {}) == "sqlite:////state/agents.sqlite"
    own = spec.loads("agents: {store: {url: 'postgresql://me@db/agents', passwordEnv: PW}}")
    assert plan.agents_url(own, STATE, {"PW": "x"}) == "postgresql://me:x@db/agents"
    with pytest.raises(InvalidInput, match=r"agents.store.passwordEnv names the environment variable PW"):
        plan.agents_url(own, STATE, {})
