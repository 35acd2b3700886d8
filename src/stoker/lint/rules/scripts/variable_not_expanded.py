"""A $VARIABLE in a command that no shell reads.

`command` and `args` are executed as they are: there is no shell that would replace `$NAME`. Kubernetes replaces
`$(NAME)`, for names in the container's own `env`. AWS Batch replaces nothing. Either write `$(NAME)`, or run a shell
with `-c`.

Symptom: the program is given the text "$NAME", or says that it is no number

Wrong:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command: [python, train.py, --rank=$RANK_OF_NODE]
        env: [{name: RANK_OF_NODE, value: "0"}]

Right:

    apiVersion: v1
    kind: Pod
    metadata: {name: train}
    spec:
      containers:
      - name: train
        image: example.com/train:v1
        command: [python, train.py, --rank=$(RANK_OF_NODE)]
        env: [{name: RANK_OF_NODE, value: "0"}]

Source: Kubernetes documentation, tasks/inject-data-application/define-command-argument-container
Source: AWS Batch API reference, ContainerProperties (command)
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.containers import Command, commands, environment, program, scripts
from stoker.lint.rule import Problem, Rule, Severity
from stoker.manifests.edits import Edit, Replace
from stoker.manifests.objects import is_open

_VARIABLE = re.compile(r"(?<![\\$])\$(?:\{([A-Z_][A-Z0-9_]*)\}|([A-Z_][A-Z0-9_]+))")
_OWN_DOLLARS = re.compile(
    r"awk|gawk|mawk|perl|ruby|php|node|envsubst|jq|yq|sed|mongo\w*|psql|mysql|redis-cli|find|tcl\w*|expect|pwsh|otelcol\w*"
    r"|vector|fluent-bit|benthos|nats-server|promtail|loki|tempo|mimir|grafana\w*"
)
"""Programs to which a dollar means something, or that expand variables themselves."""


def check(cluster: Cluster) -> Iterator[Problem]:
    inline = {id(each.command) for each in scripts(cluster) if each.command is not None}
    for command in commands(cluster):
        if id(command) in inline or _OWN_DOLLARS.fullmatch(program(command.words)) or command.text.count("$") > 50:
            continue
        known = environment(command.container)
        for path, word in command.words:
            names = [a or b for a, b in _VARIABLE.findall(word)]
            if not names or is_open(command.manifest, word):
                continue
            expanded = _VARIABLE.sub(lambda found: f"$({found[1] or found[2]})", word)
            is_known = all(name in known for name in names)
            edits: tuple[Edit, ...] = (Replace(path, expanded),) if is_known and command.workload is not None else ()
            yield Problem(
                command.manifest,
                path,
                f"no shell reads this, so {', '.join(f'${name}' for name in dict.fromkeys(names))} stays as it is",
                hint=_hint(command, expanded),
                severity=_severity(command, is_known),
                edits=edits,
            )


def _severity(command: Command, is_known: bool) -> Severity | None:
    """In Batch nothing will ever replace it. A name that `env` lacks may be one that the program itself replaces."""
    if command.workload is None:
        return Severity.ERROR
    return None if is_known else Severity.INFO


def _hint(command: Command, expanded: str) -> str:
    if command.workload is None:
        return '[/bin/sh, -c, "exec ..."] around the command'
    return f"{expanded} with the variable in env, or a shell with -c"


RULE = Rule(
    "STK-SCRIPTS-004",
    Severity.WARNING,
    "A $VARIABLE in a command that no shell reads",
    check,
    __name__,
    guide=("E18",),
)
