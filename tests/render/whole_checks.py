"""All checks over one output, in one list of sentences."""

import whole_metrics
import whole_names
import whole_places
import whole_references
import whole_terraform
from whole import Output

from stoker.lint.config import Config
from stoker.lint.run import lint
from stoker.manifests.reading import read

CHECKS = {
    "references": whole_references.problems,
    "places": whole_places.problems,
    "names": whole_names.problems,
    "terraform": whole_terraform.problems,
    "metrics": whole_metrics.problems,
}


def all_problems(output: Output, folder: str) -> list[str]:
    """What the checks say, and what the linter finds in `folder`, where the output lies; info included."""
    found = {f"{name}: {said}" for name, check in CHECKS.items() for said in check(output)}
    return [*sorted(found), *linted(folder)]


def linted(folder: str) -> list[str]:
    report = lint(read([folder]), Config())
    cut = len(folder) + 1
    return [
        f"lint: {each.file[cut:]}:{each.line}: {each.rule} {each.object}: {each.message}" for each in report.findings
    ]
