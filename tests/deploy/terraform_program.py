#!/usr/bin/env python3
"""A program called `terraform` for tests of what goes wrong with Terraform: it takes the words that `stoker deploy`
gives it, has three resources, and fails where it is told to. The real one is in the walk-throughs (`make test-deploy`).

Beside it: `fail` holds WORD:N, and makes the N-th call with that first word fail; `apply` then has made the first
resource. `calls` has a line for each call. The state is in the folder that it works in, as the real one's.
"""

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
STATE = Path("terraform.tfstate")
ALL = ["aws_vpc.main", "aws_s3_bucket.models", "aws_eks_cluster.main"]


def there() -> list[str]:
    return json.loads(STATE.read_text()) if STATE.exists() else []


def changes(words: list[str]) -> dict[str, str]:
    return json.loads(Path(words[-1]).read_text())


def failing(words: list[str]) -> bool:
    with (HERE / "calls").open("a") as calls:
        calls.write(" ".join(words) + "\n")
    path = HERE / "fail"
    if not path.exists():
        return False
    word, _, number = path.read_text().strip().partition(":")
    count = sum(line.split()[0] == word for line in (HERE / "calls").read_text().splitlines())
    return words[0] == word and count == int(number)


def plan(words: list[str]) -> None:
    targets = [word.removeprefix("-target=") for word in words if word.startswith("-target=")]
    chosen = targets or ALL
    if "-destroy" in words:
        found = {name: "delete" for name in there() if name in chosen}
    elif targets:
        found = {name: "update" for name in there() if name in chosen}
    else:
        found = {name: "create" for name in ALL if name not in there()}
    file = next(word.removeprefix("-out=") for word in words if word.startswith("-out="))
    Path(file).write_text(json.dumps(found))


def apply(words: list[str], fails: bool) -> int:
    for number, (name, action) in enumerate(changes(words).items()):
        if fails and number:
            event = {"@level": "error", "@message": f"Error: {name}", "diagnostic": {"detail": "no capacity"}}
            print(json.dumps(event))
            return 1
        left = [each for each in there() if each != name]
        STATE.write_text(json.dumps(left if action == "delete" else [*left, name]))
        print(json.dumps({"type": "apply_complete", "@level": "info", "@message": f"{name}: {action} complete"}))
    return 1 if fails else 0


def main(words: list[str]) -> int:
    if words[0] == "version":
        print(json.dumps({"terraform_version": "1.11.4"}))
        return 0
    fails = failing(words)
    if fails and words[0] != "apply":
        print(f"Error: {words[0]} went wrong", file=sys.stderr)
        return 1
    if words[0] == "plan":
        plan(words)
    elif words[0] == "show":
        made = [
            {"address": name, "type": name.split(".")[0], "change": {"actions": [action]}}
            for name, action in changes(words).items()
        ]
        print(json.dumps({"resource_changes": made, "resource_drift": []}))
    elif words[0] == "apply":
        return apply(words, fails)
    elif words[0] == "output":
        has_cluster = "aws_eks_cluster.main" in there()
        print(json.dumps({"vpc_id": {"value": "vpc-1"}} if has_cluster else {}))
    elif words[:2] == ["state", "list"]:
        for name in there():
            print(name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
