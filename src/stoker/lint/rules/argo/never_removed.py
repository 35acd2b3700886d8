"""Workflows and their pods are never removed.

A Workflow that is done stays in etcd, and each of its pods on its node's books, until somebody deletes it. After some
thousand the API server and the controller are slow. (What a CronWorkflow starts is removed by its history limits.)

Symptom: kubectl get pods lists thousands of Completed; etcdserver: mvcc: database space exceeded

Wrong:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {generateName: evaluation-}
    spec:
      entrypoint: evaluate
      templates:
      - name: evaluate
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}

Right:

    apiVersion: argoproj.io/v1alpha1
    kind: Workflow
    metadata: {generateName: evaluation-}
    spec:
      entrypoint: evaluate
      ttlStrategy: {secondsAfterSuccess: 86400, secondsAfterFailure: 604800}
      podGC: {strategy: OnPodSuccess}
      templates:
      - name: evaluate
        container: {image: "registry.example.com/evaluate:1.0", command: [evaluate]}

Source: argoproj/argo-workflows@v4.1.2 docs/cost-optimisation.md
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.argo._flows import flows


def check(cluster: Cluster) -> Iterator[Problem]:
    for flow in flows(cluster):
        if flow.manifest.kind == "Workflow" and not flow.borrowed and "ttlStrategy" not in flow.spec:
            pods = "" if "podGC" in flow.spec else ", nor its pods"
            yield Problem(
                flow.manifest,
                ("spec", "ttlStrategy"),
                f"nothing removes this Workflow when it is done{pods}",
                hint="ttlStrategy: {secondsAfterSuccess: 86400, secondsAfterFailure: 604800},"
                " podGC: {strategy: OnPodSuccess}",
            )


RULE = Rule("STK-ARGO-013", Severity.INFO, "Workflows and their pods are never removed", check, __name__)
