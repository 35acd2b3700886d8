"""torch.distributed.launch is deprecated.

`torchrun` took its place in PyTorch 1.10. It starts the workers again when one fails, which the old module does not,
and passes ranks by the environment; a program that reads `--local_rank` from its arguments has to read LOCAL_RANK
instead.

Symptom: "FutureWarning: The module torch.distributed.launch is deprecated"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command: [python, -m, torch.distributed.launch, --nproc_per_node=8, train.py]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command: [torchrun, --nproc-per-node=8, train.py]

Source: PyTorch documentation, elastic/run (torchrun)
"""

from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import commands, scripts
from stoker.lint.rule import Problem, Rule, Severity

_OLD = "torch.distributed.launch"


def check(cluster: Cluster) -> Iterator[Problem]:
    places = [(each.manifest, path, word) for each in commands(cluster) for path, word in each.words]
    places += [
        (each.manifest, each.path, each.text) for each in scripts(cluster) if each.place in ("config", "userData")
    ]
    for manifest, path, text in places:
        if _OLD in text:
            yield Problem(manifest, path, f"{_OLD} is deprecated, and restarts nothing", hint="torchrun")


RULE = Rule("STK-TRAINING-014", Severity.WARNING, "torch.distributed.launch is deprecated", check, __name__, ("W05",))
