"""Workers of models on servers elsewhere."""

from rendered_models import container, env, findings, objects, plan, pod_of

HOSTED = """\
llm:
  models:
    general: {}
    paid: {engine: {url: "https://llm.example.com/v1", apiKeyEnv: PAID_KEY}, limits: {timeoutSeconds: 200}}
    free: {engine: {url: "http://10.1.2.3:8000/v1"}}
"""


def test_a_hosted_model_has_one_worker_and_nothing_else() -> None:
    made = objects(plan(HOSTED))
    assert sorted(key for key in made if "paid" in key or "free" in key) == [
        "Deployment worker-free",
        "Deployment worker-paid",
        "PodDisruptionBudget worker-free",
        "PodDisruptionBudget worker-paid",
    ]
    paid = made["Deployment worker-paid"]
    assert paid["spec"]["replicas"] == 1
    assert pod_of(paid)["nodeSelector"] == {"stoker.dev/serves": "cpu"}
    assert "nodeSelector" not in pod_of(
        objects(plan("karpenter: {enabled: false}\n" + HOSTED))["Deployment worker-paid"]
    )


def test_it_is_given_the_servers_address_and_key() -> None:
    made = objects(plan(HOSTED))
    paid, free = (container(pod_of(made[f"Deployment worker-{name}"]), "worker") for name in ("paid", "free"))
    assert paid["args"][paid["args"].index("--engine-url") + 1] == "https://llm.example.com/v1"
    assert env(paid)["PAID_KEY"] == "engine-paid/key"
    assert free["args"][free["args"].index("--engine-url") + 1] == "http://10.1.2.3:8000/v1"
    assert set(env(free)) == {"POD_NAME", "POD_IP", "STOKER_REDIS_PASSWORD", "STOKER_REDIS_URL"}


def test_it_leaves_as_late_as_its_nodes_allow() -> None:
    def grace(text: str) -> tuple[str, int]:
        pod = pod_of(objects(plan(text))["Deployment worker-paid"])
        args = container(pod, "worker")["args"]
        return args[args.index("--grace") + 1], pod["terminationGracePeriodSeconds"]

    assert grace(HOSTED) == ("200", 205)
    assert grace("karpenter: {nodePools: {gpu: {}, cpu: {use: general, instanceFamilies: [m7i]}}}\n" + HOSTED) == (
        "90",
        95,
    )


def test_the_linter_has_nothing_to_say() -> None:
    assert [(each.rule, each.message) for each in findings(plan(HOSTED))] == []
