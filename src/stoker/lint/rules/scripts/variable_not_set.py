"""Inline Python reads a variable that the container does not set.

`os.environ["NAME"]` raises KeyError where the variable is not there. A pod's own name, namespace and node are not in
its environment unless `env` puts them there with `fieldRef`. The image may set variables, too; if it sets this one,
say so in `env` or use `os.environ.get`.

Symptom: "KeyError: 'POD_NAME'"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: report}
    spec:
      containers:
      - name: report
        image: example.com/report:v1
        command: [python, -c, "import os; print(os.environ['POD_NAME'])"]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: report}
    spec:
      containers:
      - name: report
        image: example.com/report:v1
        command: [python, -c, "import os; print(os.environ['POD_NAME'])"]
        env:
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}

Source: Kubernetes documentation, tasks/inject-data-application/environment-variable-expose-pod-information
"""

import ast
import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import environment, has_open_environment
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import python

_FIELDS = {"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "NODE_NAME": "spec.nodeName"}
_FIELDS |= {"NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP", "HOST_IP": "status.hostIP"}
_GIVEN = re.compile(
    r"PATH|HOME|HOSTNAME|PWD|USER|LANG|TERM|SHLVL|TZ|KUBERNETES_\w+|\w+_SERVICE_(HOST|PORT)|\w+_PORT|AWS_\w+"
    r"|WORLD_SIZE|RANK|(LOCAL|GROUP|NODE)_\w+|MASTER_(ADDR|PORT)|PET_\w+|JOB_COMPLETION_INDEX|JOBSET_\w+|LWS_\w+"
    r"|TORCHELASTIC_\w+|NVIDIA_\w+|CUDA_\w+|LD_LIBRARY_PATH|PYTHON\w+|VIRTUAL_ENV|TF_CONFIG|ARGO_\w+"
)
"""What the kubelet, a webhook, an operator, a launcher or nearly every image sets."""


def check(cluster: Cluster) -> Iterator[Problem]:
    for script, tree in python(cluster):
        container = script.container
        if script.workload is None or has_open_environment(container):
            continue
        known = set(environment(container))
        for name in sorted(_read(tree) - _handled(tree) - known):
            if _GIVEN.fullmatch(name):
                continue
            field = _FIELDS.get(name)
            yield Problem(
                script.manifest,
                (*script.command.path, "env") if script.command is not None else script.path,
                f"the script reads {name}, which the container does not set: KeyError, unless the image sets it",
                hint=f"env: {name} with valueFrom.fieldRef.fieldPath: {field}" if field else f"env: {name}",
            )


def _read(tree: ast.Module) -> set[str]:
    """Names in `os.environ["NAME"]`."""
    return {
        node.slice.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Subscript)
        and isinstance(node.ctx, ast.Load)
        and _is_environ(node.value)
        and isinstance(node.slice, ast.Constant)
        and isinstance(node.slice.value, str)
    }


def _handled(tree: ast.Module) -> set[str]:
    """Names that the script sets or asks for first; all of them where it catches KeyError."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=value, slice=ast.Constant(value=str(name)), ctx=ast.Store()) if _is_environ(value):
                found.add(name)
            case ast.Compare(left=ast.Constant(value=str(name)), comparators=[value]) if _is_environ(value):
                found.add(name)
            case ast.Call(func=ast.Attribute(value=value, attr="setdefault"), args=[ast.Constant(value=str(name)), *_]):
                found |= {name} if _is_environ(value) else set()
            case ast.ExceptHandler(type=kind) if kind is None or "KeyError" in ast.dump(kind):
                return _read(tree)
            case ast.Call(func=ast.Attribute(value=value, attr="update")) if _is_environ(value):
                return _read(tree)
    return found


def _is_environ(node: ast.expr) -> bool:
    return (isinstance(node, ast.Attribute) and node.attr == "environ") or (
        isinstance(node, ast.Name) and node.id == "environ"
    )


RULE = Rule(
    "STK-SCRIPTS-003",
    Severity.WARNING,
    "Inline Python reads a variable that the container does not set",
    check,
    __name__,
    guide=("R10",),
)
