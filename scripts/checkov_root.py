"""What checkov finds in the root module: nothing, and each finding that has a reason is found without it.

The second part is what keeps the reasons (stoker.render.root.findings) few: checkov believes a reason without looking.

    make test-checkov
"""

import json
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

from stoker.render.root import findings
from stoker.render.run import render_root
from stoker.spec import Mode, Platform, load, loads

ROOT = Path(__file__).parents[1]
PROGRAM = ROOT / ".checkov" / "bin" / "checkov"
_REASON = re.compile(r"^ *#checkov:skip=.*\n", re.MULTILINE)


def platforms() -> dict[str, Platform]:
    """The examples, and the largest with what only the module makes."""
    examples = ROOT / "examples"
    text = (examples / "everything.yaml").read_text()
    text = text.replace("fileSystem: fs-0123456789abcdef0, mountName: fsx, ", "")
    text = text.replace(
        "  architecture: replication\n", "  architecture: replication\n  elasticache: {enabled: true}\n"
    )
    network = "{publicAccess: [203.0.113.0/24]}"
    return {
        "whole": loads(f"{text}\ndeploy: {{monthlyBudgetUsd: 900, network: {network}}}\n"),
        "platform": load(examples / "platform.yaml"),
        "guide-values": load(examples / "guide-values.yaml"),
    }


def checked(change: Callable[[str], str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as where:
        for name, platform in platforms().items():
            for mode in get_args(Mode):
                folder = Path(where) / f"{name}-{mode}"
                folder.mkdir()
                for file, text in render_root(platform, mode=mode).items():
                    (folder / file).write_text(change(text))
        words = ["--framework", "terraform", "--skip-download", "--compact", "--quiet", "--output", "json"]
        done = subprocess.run([str(PROGRAM), "--directory", where, *words], capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        sys.exit(f"checkov said nothing that can be read: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> int:
    with_reasons, without = checked(lambda text: text), checked(lambda text: _REASON.sub("", text))
    open_ = {(each["check_id"], each["resource"]) for each in with_reasons["results"]["failed_checks"]}
    for check, resource in sorted(open_):
        print(f"{resource}: {check} is found, and neither mended nor explained")
    real = {(each["check_id"], each["resource"].partition("[")[0]) for each in without["results"]["failed_checks"]}
    said = {(check, where) for where, reasons in findings.REASONS.items() for check in reasons}
    said |= {(check, "aws_eks_cluster.main") for check in findings.OPEN_API}
    idle = sorted(
        (check, where)
        for check, where in said
        if not any(check == one and (of == where or of.startswith(f"{where}.")) for one, of in real)
    )
    for check, where in idle:
        print(f"{where}: the reason for {check} explains nothing that is found")
    summary = with_reasons["summary"]
    print(f"checkov {summary['checkov_version']}: {summary['passed']} passed, {summary['failed']} failed, ", end="")
    counts = Counter(check for check, _ in real)
    print(f"{summary['skipped']} explained, of {len(counts)} checks: {dict(sorted(counts.items()))}")
    return 1 if open_ or idle else 0


if __name__ == "__main__":
    sys.exit(main())
