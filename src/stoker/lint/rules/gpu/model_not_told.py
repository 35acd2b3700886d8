"""vLLM is not told which model to serve.

The image's entry point is `vllm serve`. It takes the model from its arguments, and from no variable of the
environment: MODEL_PATH and the like mean nothing to it. Without one it serves a small model of its own choice, and
looks healthy.

Symptom: the answers are nonsense, and /v1/models names a model that nobody asked for
Symptom: "The model `chat` does not exist"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.0
        env: [{name: MODEL_PATH, value: "s3://models/chat/"}]
        resources: {limits: {nvidia.com/gpu: 1}}

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: chat}
    spec:
      containers:
      - name: vllm
        image: vllm/vllm-openai:v0.11.2
        args: [--model, "s3://models/chat/", --load-format, runai_streamer]
        resources: {limits: {nvidia.com/gpu: 1}}

Source: vLLM documentation, deployment/docker and cli/serve
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.gpu._views import is_vllm, servers
from stoker.manifests.objects import look
from stoker.spec.faults import Path

_TOLD = re.compile(r"(^|\s)(--model|--config)[=\s]|\bserve\s+[^-\s]")
_NAMES = ("MODEL_PATH", "MODEL", "MODEL_NAME", "MODEL_ID", "MODEL_DIR", "MODEL_URI", "VLLM_MODEL")


def check(cluster: Cluster) -> Iterator[Problem]:
    for workload, path, container in servers(cluster):
        command, args = (look(container, key) for key in ("command", "args"))
        if not is_vllm(container) or command:  # what another program does with its arguments is not known
            continue
        words = [str(each) for each in args] if isinstance(args, list) else []
        if _TOLD.search(" ".join(words)) or (words and not words[0].startswith("-")):
            continue
        known = environment(container)
        name = next((each for each in _NAMES if each in known), None)
        place: Path = (*path, "env", known[name][0], "name") if name else (*path, "args")
        said = f"{name} means nothing to vLLM, and no argument names" if name else "no argument names"
        yield Problem(
            workload.manifest,
            place,
            f"{said} the model, so it serves a small one of its own choice",
            hint="args: [--model, NAME or path]",
        )


RULE = Rule("STK-GPU-010", Severity.WARNING, "vLLM is not told which model to serve", check, __name__, guide=("S22",))
