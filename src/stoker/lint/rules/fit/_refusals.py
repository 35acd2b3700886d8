"""Pods that no pool lets on because of a label that every node has, and that has another value there."""

from collections.abc import Callable, Iterator

from stoker.lint.cluster import Cluster
from stoker.lint.fleet import fleet
from stoker.lint.rule import Problem, Severity
from stoker.policy.placement import Blocker


def refusals(cluster: Cluster, is_it: Callable[[Blocker], bool], consequence: str, hint: str) -> Iterator[Problem]:
    """One problem for each pod that is refused for such a label by every pool that it is meant for."""
    known = fleet(cluster)
    for pod in known.pods:
        refused = known.refused(pod)
        if not refused or not all(any(is_it(each) for each in blockers) for _, blockers in refused):
            continue
        pool, blockers = refused[0]
        blocker = next(each for each in blockers if is_it(each))
        yield Problem(
            pod.workload.manifest,
            pod.path_of_label(blocker.key),
            f"{pod.workload}: wants {blocker.key} {blocker.wanted}, and {pool} has "
            f"{blocker.offered or 'none'}: {consequence}",
            hint=f"{blocker.offered}, or {hint}" if blocker.offered else hint,
            severity=Severity.ERROR if known.tied(pod) else Severity.WARNING,
        )
