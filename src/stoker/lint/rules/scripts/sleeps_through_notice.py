"""A handler of spot notices sleeps for most of the notice.

Between the notice and the end of the node are 120 s, less what the handler needs to see it. A handler that signals
and then sleeps as long as that does nothing more: the node goes while it sleeps, and the pod, which ends with its
last container, holds up the drain.

Symptom: what should come after the sleep is never done

Wrong:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: handler}
    data:
      handle.sh: |
        until notice http://169.254.169.254/latest/meta-data/spot/instance-action; do sleep 5; done
        touch /shared/stop
        sleep 120
        upload /shared/checkpoint

Right:

    apiVersion: v1
    kind: ConfigMap
    metadata: {name: handler}
    data:
      handle.sh: |
        until notice http://169.254.169.254/latest/meta-data/spot/instance-action; do sleep 5; done
        touch /shared/stop
        until [ -e /shared/saved ]; do sleep 1; done
        upload /shared/checkpoint

Source: Amazon EC2 user guide, Spot Instance interruption notices
"""

import re
from collections.abc import Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.rule import Problem, Rule, Severity
from stoker.lint.rules.scripts._views import judged

_NOTICE = re.compile(r"spot/(instance-action|termination-time)|instance-action")
_SLEEP = re.compile(r"\bsleep[\s(]+(\d{1,6})(m)?\b")
_NOTICE_S = 120
_LONG_S = 60


def check(cluster: Cluster) -> Iterator[Problem]:
    for script in judged(cluster):
        if not _NOTICE.search(script.text):
            continue
        slept = max((int(number) * (60 if unit else 1) for number, unit in _SLEEP.findall(script.text)), default=0)
        if slept >= _LONG_S:
            yield Problem(
                script.manifest,
                script.path,
                f"sleeps {slept} s of the {_NOTICE_S} s between a spot notice and the end of the node",
                hint="wait for what has to be done, a second at a time, and end",
            )


RULE = Rule(
    "STK-SCRIPTS-008",
    Severity.WARNING,
    "A handler of spot notices sleeps for most of the notice",
    check,
    __name__,
    guide=("R21",),
)
