"""What training and the pipeline render has nothing for the linter to say, with the pools that it runs on."""

from collections.abc import Iterator

import pytest

from stoker.lint.rules import RULES
from stoker.lint.run import lint
from stoker.manifests.reading import read_text
from stoker.manifests.writing import to_yaml
from stoker.render import nodes, pipeline, training
from stoker.render.items import Item, Resource
from stoker.render.plan import Plan
from stoker.spec import Mode, loads

ACCOUNT = 'cluster: {account: "111122223333"}'
OF_BASE = """\
apiVersion: v1
kind: Namespace
metadata: {name: agentic-ai-training, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: v1
kind: Namespace
metadata: {name: agentic-ai, labels: {pod-security.kubernetes.io/enforce: restricted}}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: stoker-training}
value: 100000
"""
SPECS = [
    "training: {enabled: true}",
    "training: {enabled: true, nodes: 1, storage: {enabled: true, fileSystem: fs-0123abcd}}",
    "training: {enabled: true, legacyPytorchJob: true}",
    "training: {enabled: true, legacyPytorchJob: true, efa: false, nodes: 3, gpus: 2}",
    "training: {enabled: true, efa: false}\nkarpenter: {enabled: false}",
    "training: {enabled: true, gpus: 4}\nkarpenter: {nodePools: {gpu: {}, t: {use: training, "
    "instanceFamilies: [p5, g6e, g6], zones: [us-west-2a, us-west-2b], maxUsdPerHourPerNode: 30}}}",
    "training: {enabled: true}\nllm: {inference: {enabled: false}}",
    "training: {enabled: true}\nllm: {models: {big: {serving: {nodes: 2, gpu: {count: 8, memory: 640Gi}}}}}\n"
    "gateway: {defaultModel: big}\nkarpenter: {nodePools: {gpu: {instanceFamilies: [p5], spotEnabled: false}}}",
]


def items(plan: Plan) -> Iterator[Item]:
    yield from training.render(plan)
    yield from pipeline.render(plan)
    yield from nodes.render(plan)


@pytest.mark.parametrize("mode", ["karpenter", "auto"])
@pytest.mark.parametrize("text", SPECS)
def test_the_linter_has_nothing_to_say(text: str, mode: Mode) -> None:
    plan = Plan(loads(f"global: {{{ACCOUNT}}}\n{text}"), mode)
    documents = [OF_BASE]
    for item in items(plan):
        if isinstance(item, Resource):
            comment = "".join(f"# {line}\n" for line in item.comment.splitlines())
            documents.append(comment + to_yaml(item.object))
    found = lint(read_text("---\n".join(documents), "all.yaml"), rules=RULES).findings
    pools = ("NodePool", "EC2NodeClass", "NodeClass")
    assert [(each.rule, each.object, each.message) for each in found if not each.object.startswith(pools)] == []
