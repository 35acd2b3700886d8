"""Agents in the cluster: when there are any, their pods, and what these are told."""

from typing import Any

import pytest
from rendered import Object, objects_of, plan_of, pod_of
from rendered_models import container, env

from stoker.base.errors import InvalidInput
from stoker.lint.run import lint
from stoker.manifests.reading import read_text
from stoker.policy import scaled
from stoker.render import agents, argocd, gateway, scaling
from stoker.render.cluster_spec import platform_yaml
from stoker.render.run import render
from stoker.render.secrets import wanted
from stoker.spec import dump, loads

ON = "agents: {enabled: true}\n"
TOOLS = """\
agents:
  enabled: true
  tools:
    web: {fetch: {hosts: [example.com], headers: {Authorization: WEB_TOKEN, X-Other: SHARED}}}
    files: {mcp: {command: [files-server], env: {TOKEN: SHARED}}, timeoutSeconds: 500}
    tickets: {mcp: {url: "https://mcp.example.com", headers: {Authorization: TICKETS_TOKEN}}}
"""


def made(text: str) -> dict[tuple[str, str], Object]:
    return objects_of(agents.render, text)


def of_worker(text: str = ON) -> Object:
    return container(pod_of(made(text)["Deployment", "agent-worker"]), "agent-worker")


@pytest.mark.parametrize(
    ("text", "runs"),
    [
        ("", False),  # the agent of the defaults is for a first try on one machine
        ("agents: {enabled: null, retentionDays: 7}", False),
        ("agents: {definitions: {mine: {}}}", True),
        ("agents: {enabled: false, definitions: {mine: {}}}", False),
        (ON, True),
    ],
)
def test_they_run_where_the_file_names_agents_or_says_so(text: str, runs: bool) -> None:
    told = {
        each["name"]
        for each in objects_of(gateway.render, text)["Deployment", "gateway"]["spec"]["template"]["spec"]["containers"][
            0
        ]["env"]
    }
    assert bool(made(text)) is runs
    assert ("agents" in wanted(plan_of(text))) is runs
    assert told >= {"STOKER_AGENTS_URL", "STOKER_AGENTS_KEY"} if runs else not any("AGENTS" in each for each in told)


@pytest.mark.parametrize("text", ["", ON])
def test_the_file_in_the_cluster_names_all_agents_and_says_whether_they_run(text: str) -> None:
    plan = plan_of(text)
    written = platform_yaml(plan)
    assert loads(written).agents.enabled is plan.has_agents
    assert plan_of(written).has_agents is plan.has_agents


def test_what_there_is() -> None:
    assert list(made(ON)) == [
        ("Deployment", "agents"),
        ("Service", "agents"),
        ("ServiceAccount", "agents"),
        ("PodDisruptionBudget", "agents"),
        ("Deployment", "agent-worker"),
        ("ServiceAccount", "agent-worker"),
        ("PodDisruptionBudget", "agent-worker"),
    ]
    assert made(ON)["Deployment", "agents"]["spec"]["replicas"] == 2


def test_the_gateway_finds_them_by_their_service_and_shares_a_secret_with_them() -> None:
    told = env(container(pod_of(objects_of(gateway.render, ON)["Deployment", "gateway"]), "gateway"))
    assert told["STOKER_AGENTS_URL"] == "http://agents.agentic-ai.svc.cluster.local:8081"
    assert made(ON)["Service", "agents"]["spec"]["ports"][0]["port"] == 8081
    api = container(pod_of(made(ON)["Deployment", "agents"]), "agents")
    assert {env(each)["STOKER_AGENTS_KEY"] for each in (api, of_worker())} == {"agents/key"}
    assert told["STOKER_AGENTS_KEY"] == "agents/key"


def test_command_lines() -> None:
    api = container(pod_of(made(ON)["Deployment", "agents"]), "agents")
    assert " ".join([*api["command"], *api["args"]]) == (
        "python -m stoker.agents --spec /etc/stoker/platform.yaml --host 0.0.0.0 --port 8081"
    )
    worker = of_worker()
    assert " ".join([*worker["command"], *worker["args"]]) == (
        "python -m stoker.agents.worker --spec /etc/stoker/platform.yaml --name $(POD_NAME) --folder /var/lib/stoker"
        " --health-port 8082 --grace 300"
    )
    assert worker["ports"] == [{"name": "http", "containerPort": 8082}]


def test_what_a_worker_is_told() -> None:
    ledger = "ledger.agentic-ai.svc.cluster.local:5432"
    assert env(of_worker()) == {
        "POD_NAME": "metadata.name",
        "STOKER_REDIS_PASSWORD": "redis/password",
        "STOKER_REDIS_URL": "redis://:$(STOKER_REDIS_PASSWORD)@redis.agentic-ai.svc.cluster.local:6379/0",
        "STOKER_LEDGER_PASSWORD": "ledger/password",
        "STOKER_AGENTS_DB": f"postgresql://stoker:$(STOKER_LEDGER_PASSWORD)@{ledger}/stoker",
        "STOKER_AGENTS_KEY": "agents/key",
        "STOKER_GATEWAY_URL": "http://gateway.agentic-ai.svc.cluster.local:8080",
    }


def test_files_of_an_image_of_ones_own_lie_beside_the_spec_and_are_not_covered() -> None:
    worker = of_worker()
    assert worker["workingDir"] == "/etc/stoker"
    assert [(each["mountPath"], each.get("subPath")) for each in worker["volumeMounts"]] == [
        ("/etc/stoker/platform.yaml", "platform.yaml"),
        ("/var/lib/stoker", None),
        ("/tmp", None),
    ]
    assert worker["securityContext"]["readOnlyRootFilesystem"] is True


def test_a_changed_platform_starts_new_pods() -> None:
    def digests(text: str) -> set[str]:
        found = made(text)
        templates = [found["Deployment", name]["spec"]["template"] for name in ("agents", "agent-worker")]
        return {each["metadata"]["annotations"]["stoker.dev/platform-sha256"] for each in templates}

    assert len(digests(ON)) == 1
    assert digests(ON) != digests("agents: {enabled: true, definitions: {mine: {}}}")


# --- a store and secrets ----------------------------------------------------------------------------------------------


def test_a_store_of_their_own_has_a_password_of_its_own() -> None:
    text = 'agents: {enabled: true, store: {url: "postgresql://me@db.example.com:5433/agents", passwordEnv: PW}}'
    told = env(of_worker(text))
    assert "STOKER_LEDGER_PASSWORD" not in told
    assert told["STOKER_AGENTS_PASSWORD"] == "agents-store/password"
    assert told["STOKER_AGENTS_DB"] == "postgresql://me:$(STOKER_AGENTS_PASSWORD)@db.example.com:5433/agents"
    assert loads(platform_yaml(plan_of(text))).agents.store.password_env == "STOKER_AGENTS_PASSWORD"
    assert wanted(plan_of(text))["agents-store"] == ("password",)


def test_what_tools_are_given_comes_from_one_secret_and_goes_to_workers_alone() -> None:
    told = env(of_worker(TOOLS))
    given = {name: value for name, value in told.items() if str(value).startswith("agent-tools/")}
    assert given == {name: f"agent-tools/{name}" for name in ("SHARED", "TICKETS_TOKEN", "WEB_TOKEN")}
    assert wanted(plan_of(TOOLS))["agent-tools"] == ("SHARED", "TICKETS_TOKEN", "WEB_TOKEN")
    api = env(container(pod_of(made(TOOLS)["Deployment", "agents"]), "agents"))
    assert not any(str(value).startswith("agent-tools/") for value in api.values())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("store: {url: 'sqlite:///agents.sqlite'}", "agents.store.url is sqlite:///agents.sqlite, a file, and the "),
        (
            "store: {url: 'postgresql://me@localhost/db'}",
            "agents.store.url names localhost, which in a pod is the pod ",
        ),
        ("tools: {t: {mcp: {url: 'http://127.0.0.1:9000/mcp'}}}", "agents.tools.t.mcp.url names 127.0.0.1, which in a"),
        (
            "tools: {t: {mcp: {command: [serve], env: {KEY: STOKER_AGENTS_KEY}}}}",
            "agents.tools.t.mcp.env names STOKER_AGENTS_KEY, and what begins with STOKER_ is the platform's own",
        ),
        (
            "tools: {t: {fetch: {hosts: [example.com], headers: {Authorization: STOKER_REDIS_PASSWORD}}}}",
            "agents.tools.t.fetch.headers names STOKER_REDIS_PASSWORD, and what begins with STOKER_ is the platform's",
        ),
    ],
)
def test_what_no_pod_could_use_or_should_hand_out_is_refused(keys: str, message: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        render(loads(f"agents: {{enabled: true, {keys}}}"))
    assert refused.value.message.startswith(message)
    assert refused.value.hint
    render(loads(f"agents: {{enabled: false, {keys}}}"))


# --- how many ---------------------------------------------------------------------------------------------------------


def scaler(text: str) -> dict[str, Any]:
    return objects_of(scaling.render, text)["ScaledObject", "agent-worker"]["spec"]


def test_workers_are_scaled_by_their_steps_with_the_numbers_of_stoker_up() -> None:
    text = "agents: {enabled: true, workers: {stepsAtOnce: 10, replicas: {min: 0, max: 7}}}"
    found, local = scaler(text), scaled.scaled_object(loads(text), "agents")
    assert found["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment", "name": "agent-worker"}
    assert (found["minReplicaCount"], found["maxReplicaCount"]) == (local.minimum, local.maximum) == (0, 7)
    asked = {each["name"]: each["metadata"] for each in found["triggers"]}
    assert {each["stream"] for each in asked.values()} == {"stoker:tasks:agents"}
    assert (asked["waiting"]["lagCount"], asked["waiting"]["activationLagCount"]) == ("10", "0")
    assert asked["pending"]["pendingEntriesCount"] == "8"
    assert [each.target for each in local.triggers] == [10_000, 7_500]  # KEDA takes whole numbers
    assert "replicas" not in made(text)["Deployment", "agent-worker"]["spec"]


@pytest.mark.parametrize(
    ("text", "replicas"),
    [
        ("{agents: {enabled: true}, keda: {enabled: false}}", 1),
        ("{agents: {enabled: true}, keda: {scalers: {redis: false}}}", 1),
        ("agents: {enabled: true, workers: {replicas: {min: 3, max: 3}}}", 3),
    ],
)
def test_where_nobody_scales_them_they_are_as_many_as_at_least(text: str, replicas: int) -> None:
    assert made(text)["Deployment", "agent-worker"]["spec"]["replicas"] == replicas
    assert ("ScaledObject", "agent-worker") not in objects_of(scaling.render, text)


def test_argo_cd_leaves_their_number_to_keda() -> None:
    def left_alone(text: str) -> list[str]:
        found = objects_of(argocd.render, f"{text}composition: {{argocd: {{enabled: true}}}}")
        [application] = [each for (kind, _), each in found.items() if kind == "Application"]
        return [each["name"] for each in application["spec"]["ignoreDifferences"]]

    assert "agent-worker" in left_alone(ON)
    assert "agent-worker" not in left_alone("agents: {enabled: true, workers: {replicas: {min: 1, max: 1}}}\n")


@pytest.mark.parametrize(
    ("text", "grace"),
    [
        (ON, 300),  # as long as an answer of a model may take
        (TOOLS, 500),  # as its slowest tool
        ("{agents: {enabled: true}, karpenter: {enabled: false}}", 90),  # nodes of somebody else may be spot
    ],
)
def test_a_step_may_end_before_its_pod_does(text: str, grace: int) -> None:
    pod = pod_of(made(text)["Deployment", "agent-worker"])
    assert of_worker(text)["args"][-2:] == ["--grace", str(grace)]
    assert pod["terminationGracePeriodSeconds"] == grace + 5


@pytest.mark.parametrize("text", [TOOLS, "agents: {enabled: true, workers: {replicas: {min: 1, max: 1}}}"])
def test_the_linter_has_nothing_to_say_of_any_level(text: str) -> None:
    texts = render(loads(text))
    objects = "---\n".join(each for name, each in texts.items() if name.endswith(".yaml") and "kustom" not in name)
    found = lint(read_text(objects, "all.yaml")).findings
    assert [(each.rule, each.object, each.message) for each in found] == []


def test_a_dump_of_the_defaults_names_the_agent_of_the_defaults_and_so_has_it_in_the_cluster() -> None:
    """What `stoker up` writes says `enabled` besides, and this is then what counts."""
    assert plan_of(dump(loads(""))).has_agents
