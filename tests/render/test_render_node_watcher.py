"""The watcher of nodes: what runs, and what it may do."""

import json

from rendered import Object, objects_of, plan_of, pod_of

from stoker.render import iam, network, node_watcher
from stoker.render.items import Resource


def test_one_watcher_of_the_namespaces_of_the_platform() -> None:
    found = objects_of(node_watcher.render, "training: {enabled: true}")
    deployment = found["Deployment", "node-watcher"]
    assert (deployment["spec"]["replicas"], deployment["spec"]["strategy"]) == (1, {"type": "Recreate"})
    [container] = pod_of(deployment)["containers"]
    assert container["command"] == ["python", "-m", "stoker.nodes"]
    assert container["args"] == ["--namespace", "agentic-ai", "--namespace", "agentic-ai-training"]
    assert "STOKER_LEDGER_URL" in [each["name"] for each in container["env"]]
    assert pod_of(deployment)["automountServiceAccountToken"] is True


def test_it_reads_what_machines_and_pods_are_and_changes_nothing() -> None:
    found = objects_of(node_watcher.render, "")
    rules = found["ClusterRole", "agentic-ai-node-watcher"]["rules"]
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list"}
    kinds = {f"{group}/{kind}" for rule in rules for group in rule["apiGroups"] for kind in rule["resources"]}
    assert kinds == {
        *("/nodes", "/pods", "/events"),
        *("karpenter.sh/nodeclaims", "karpenter.k8s.aws/ec2nodeclasses", "eks.amazonaws.com/nodeclasses"),
    }
    [subject] = found["ClusterRoleBinding", "agentic-ai-node-watcher"]["subjects"]
    assert (subject["kind"], subject["namespace"], subject["name"]) == ("ServiceAccount", "agentic-ai", "node-watcher")
    [its] = [each for each in iam.identities(plan_of()) if each.account == "node-watcher"]
    assert json.loads(iam.policy(*its.statements))["Statement"][0]["Action"] == ["ec2:DescribeSpotPriceHistory"]


def test_where_a_repository_is_delivered_its_rights_are_given_by_hand() -> None:
    text = "composition: {argocd: {enabled: true, repository: https://git.example.com/platform.git}}"
    files = {
        (each.object["kind"], each.file) for each in node_watcher.render(plan_of(text)) if isinstance(each, Resource)
    }
    assert ("ClusterRoleBinding", "argocd/node-watcher.yaml") in files
    assert ("Deployment", "node-watcher/node-watcher.yaml") in files


def test_it_reaches_the_ledger_and_apis_and_nobody_reaches_it() -> None:
    policies = objects_of(network.render, "")
    spec: Object = policies["NetworkPolicy", "node-watcher"]["spec"]
    ports = [each["port"] for rule in spec["egress"] for each in rule["ports"]]
    assert (ports, spec.get("ingress", [])) == ([5432, 443, 80], [])
    asks = policies["NetworkPolicy", "ledger"]["spec"]["ingress"][0]["from"]
    assert {"podSelector": {"matchLabels": {"app.kubernetes.io/name": "node-watcher"}}} in asks
