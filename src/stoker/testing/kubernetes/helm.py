"""A program called `helm` for tests: it stands for the network and for the charts of others, which cannot be had here.

It takes the words that `stoker deploy` gives Helm, and works on the cluster of the kubeconfig that it is given:
releases are Secrets as Helm names and labels them, an installed chart is a Deployment and the definitions of custom
kinds that a test said it brings. The rest of a chart, its values and its hooks are not looked at; definitions stay
when a release goes, as those in a chart's `crds` folder do.
"""

import json
import shutil
import stat
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import yaml

from stoker.testing.kubernetes.resources import definition_of, kinds_of

_PROGRAM = Path(__file__).with_name("helm_program.py")

When = Literal["before", "middle", "after"]
"""`before`: it fails and has done nothing. `middle`: it is ended at once, half way, and the release stays pending.
`after`: it has done its work, and fails."""


@dataclass(frozen=True)
class HelmStandIn:
    """What a test sees of the program. `folder` goes on PATH."""

    folder: Path

    @property
    def calls(self) -> list[list[str]]:
        """The words of every call, in order, without the program's name."""
        path = self.folder / "helm-calls.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @property
    def changing(self) -> list[list[str]]:
        """The calls that change something."""
        return [each for each in self.calls if each[:1] and each[0] in ("upgrade", "install", "uninstall", "rollback")]

    def fail(self, call: int, when: When = "before", message: str = "context deadline exceeded") -> None:
        """The n-th call that changes something fails; counted from 1 and from the beginning."""
        path = self.folder / "helm-faults.json"
        faults = json.loads(path.read_text()) if path.exists() else {}
        path.write_text(json.dumps({**faults, str(call): {"when": when, "message": message}}))


def write_helm(folder: Path, charts: Mapping[str, Sequence[str]], version: str = "v4.0.0") -> HelmStandIn:
    """Writes `folder/helm`. `charts`: a chart, as it is named on the command line or by its last part, and the API
    groups whose definitions it brings; others are refused, as by a repository that has them not."""
    folder.mkdir(parents=True, exist_ok=True)
    brought = {
        chart: [definition_of(group, kind) for group in groups for kind in kinds_of(group)]
        for chart, groups in charts.items()
    }
    (folder / "helm-charts.json").write_text(json.dumps({"version": version, "charts": brought}))
    program = folder / "helm_program.py"
    shutil.copyfile(_PROGRAM, program)
    script = folder / "helm"
    places = [str(folder), str(Path(yaml.__file__).parent.parent)]
    script.write_text(
        f"#!{sys.executable} -IS\n"  # -S: starting takes half the time without what is installed
        f"import sys\nsys.path += {places!r}\nfrom helm_program import main\nmain({str(folder)!r}, sys.argv[1:])\n"
    )
    script.chmod(script.stat().st_mode | stat.S_IXUSR)
    return HelmStandIn(folder)
