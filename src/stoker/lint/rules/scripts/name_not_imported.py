"""Inline Python uses a module that it does not import.

Code in a manifest is seen by no editor and no test. A name that is never bound raises NameError when that line runs,
which may be in a function that is called an hour later.

Symptom: "NameError: name 'os' is not defined"

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: report}
    spec:
      containers:
      - name: report
        image: example.com/report:v1
        command:
        - python
        - -c
        - |
          print(os.getcwd())

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: report}
    spec:
      containers:
      - name: report
        image: example.com/report:v1
        command:
        - python
        - -c
        - |
          import os
          print(os.getcwd())

Source: Python documentation, reference/executionmodel (resolution of names)
"""

import ast
import builtins
import sys
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import python

_GIVEN = frozenset([*dir(builtins), "__name__", "__file__", "__doc__", "__builtins__", "__class__"])
_MODULES = frozenset([*sys.stdlib_module_names, "torch", "boto3", "requests", "numpy", "redis", "transformers", "yaml"])


def check(cluster: Cluster) -> Iterator[Problem]:
    for script, tree in python(cluster):
        for name, line in sorted(unbound(tree).items()):
            if name in _MODULES:
                message = f"line {line} uses the module {name}, which is never imported: NameError when it runs"
                hint = f"import {name}"
            else:
                message = f"line {line} uses {name}, which nothing defines: NameError when it runs"
                hint = ""
            yield Problem(script.manifest, script.path, message, hint=hint)


def unbound(tree: ast.Module) -> dict[str, int]:
    """Names that are read and bound nowhere, with the first line that reads each. Scopes are taken together: what is
    bound anywhere is taken to be bound."""
    bound = set(_GIVEN)
    read: dict[str, int] = {}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=names) if any(each.name == "*" for each in names):
                return {}  # whatever it brings
            case ast.Import(names=names) | ast.ImportFrom(names=names):
                bound |= {(each.asname or each.name).partition(".")[0] for each in names}
            case ast.Name(id=name, ctx=ast.Load()):
                read[name] = min(read.get(name, node.lineno), node.lineno)
            case ast.Name(id=name):
                bound.add(name)
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.arg(arg=name):
                bound.add(name)
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                bound.add(name)
            case ast.MatchMapping(rest=str(name)):
                bound.add(name)
            case ast.Global(names=listed) | ast.Nonlocal(names=listed):
                bound |= set(listed)
            case _ if type(node).__name__ in ("TypeVar", "ParamSpec", "TypeVarTuple"):
                bound.add(getattr(node, "name", ""))  # of the syntax of 3.12, which 3.11 has no classes for
            case ast.Call(func=ast.Name(id="exec" | "globals" | "locals" | "vars")):
                return {}  # binds what cannot be seen
    return {name: line for name, line in read.items() if name not in bound}


RULE = Rule(
    "STK-SCRIPTS-001",
    Severity.WARNING,
    "Inline Python uses a module that it does not import",
    check,
    __name__,
    guide=("R10",),
)
