"""Terraform as `deploy` runs it: the root module of `render_root` in a folder, planned, applied as it was planned, and
destroyed. Its state is in that folder, or in the bucket that the module names.
"""

import json
import os
import secrets
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from stoker.base.errors import InvalidInput
from stoker.deploy import programs
from stoker.deploy.programs import Say
from stoker.render import folder

Action = Literal["create", "update", "replace", "delete"]
LEAST = (1, 11)
_TOLD = ("apply_complete", "apply_errored", "apply_progress")
_ACTIONS: Mapping[tuple[str, ...], Action] = {
    ("create",): "create",
    ("update",): "update",
    ("delete",): "delete",
    ("delete", "create"): "replace",
    ("create", "delete"): "replace",
}


@dataclass(frozen=True)
class ResourceChange:
    """`address`: as Terraform names it (`aws_vpc.main`)."""

    address: str
    type: str
    action: Action


@dataclass(frozen=True)
class TerraformPlan:
    """What Terraform would do. `drift`: what somebody else changed or removed since. `file` holds it, to be applied."""

    changes: tuple[ResourceChange, ...]
    drift: tuple[ResourceChange, ...]
    file: Path

    def count(self, action: Action) -> int:
        return sum(change.action == action for change in self.changes)


class Terraform:
    """The module in `where`. `variables`: given with -var to each command that takes them."""

    def __init__(self, program: programs.Program, where: Path, variables: Mapping[str, Any]) -> None:
        self._program = program
        self.where = where
        self._plan = f"stoker-{os.getpid()}-{secrets.token_hex(4)}.tfplan"  # others may plan here, too
        self._variables = [f"-var={name}={json.dumps(value)}" for name, value in variables.items()]

    def write(self, texts: Mapping[str, str]) -> None:
        """The module's files. Raises InvalidInput where a person changed one of them: it would be lost."""
        self.where.mkdir(parents=True, exist_ok=True, mode=0o700)
        folder.write(self.where, texts)

    def init(self) -> None:
        self._program.output("init", "-input=false", "-no-color", cwd=self.where, timeout_s=600)

    def plan(self, *, destroy: bool = False, targets: Collection[str] = (), delete_data: bool = False) -> TerraformPlan:
        """`targets`: these alone, and what depends on them; none means all. Raises ProgramFailed with what Terraform
        says."""
        words = ["plan", "-input=false", "-no-color", f"-out={self._plan}", *self._variables]
        words += ["-var=delete_data=true"] if delete_data else []
        words += ["-destroy"] if destroy else []
        words += [f"-target={address}" for address in targets]
        with _only_for_me():
            self._program.output(*words, cwd=self.where, timeout_s=1800)
        shown = json.loads(self._program.output("show", "-json", self._plan, cwd=self.where, timeout_s=300))
        return read_plan(shown, self.where / self._plan)

    def apply(self, plan: TerraformPlan, said: Say) -> None:
        """As it was planned. `said` hears of each resource, with how many are done."""
        done = 0
        errors: list[str] = []

        def tell(line: str) -> None:
            nonlocal done
            kind, message, error = _event(line)
            done += kind == "apply_complete"
            if error:
                errors.append(error)
            elif message:
                said(f"[{done}/{len(plan.changes)}] {message}")

        words = ("apply", "-input=false", "-no-color", "-json", plan.file.name)
        try:
            self._program.lines(*words, said=tell, cwd=self.where)
        except programs.ProgramFailed as error:
            raise programs.ProgramFailed(
                "terraform apply failed:\n" + ("\n".join(errors) or error.message),
                hint="what was made is in Terraform's state: mend the cause and do it again",
            ) from error
        finally:
            plan.file.unlink(missing_ok=True)

    def outputs(self) -> dict[str, Any]:
        """The module's outputs by name; none before it was applied."""
        said = json.loads(self._program.output("output", "-json", "-no-color", cwd=self.where))
        return {name: each["value"] for name, each in said.items()}

    def resources(self) -> list[str]:
        """Addresses of all that the state has."""
        try:
            return self._program.output("state", "list", cwd=self.where).splitlines()
        except programs.ProgramFailed as error:
            if "No state file was found" in str(error):
                return []
            raise

    def forget(self) -> None:
        """The plan's file, which may hold values that a module calls sensitive."""
        (self.where / self._plan).unlink(missing_ok=True)


def find(variables: Mapping[str, Any], where: Path) -> Terraform:
    """Raises InvalidInput where Terraform is not there or too old, and for variables that are no JSON object."""
    environ = {"TF_IN_AUTOMATION": "1", "TF_INPUT": "0", "CHECKPOINT_DISABLE": "1"}
    program = programs.find("terraform", LEAST, ("version", "-json"), "deploy.terraform is true", **environ)
    return Terraform(program, where, variables)


def read_plan(shown: Mapping[str, Any], file: Path) -> TerraformPlan:
    """Of what `terraform show -json` says (Terraform's JSON output format, plan representation)."""
    return TerraformPlan(
        tuple(_changes(shown.get("resource_changes", []))), tuple(_changes(shown.get("resource_drift", []))), file
    )


def variables_of(text: str | None) -> dict[str, Any]:
    """STOKER_TERRAFORM_VARIABLES: a JSON object of further variables, such as {"without": ["budgets"]}."""
    if not text:
        return {}
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise InvalidInput(
            f"STOKER_TERRAFORM_VARIABLES is {text[:60]!r}; must be a JSON object",
            hint="""such as '{"without": ["budgets"]}'""",
        )
    return found


def _changes(listed: Collection[Mapping[str, Any]]) -> Iterator[ResourceChange]:
    for each in listed:
        action = _ACTIONS.get(tuple(each["change"]["actions"]))
        if action is not None and each.get("mode") != "data":
            yield ResourceChange(each["address"], each["type"], action)


def _event(line: str) -> tuple[str, str, str]:
    """Type, message and error of a line of Terraform's machine-readable UI; no message for what nobody needs to hear. A
    line that is none of it is said as it stands."""
    try:
        event = json.loads(line)
    except ValueError:
        return "", line, ""
    kind, message = str(event.get("type", "")), str(event.get("@message", ""))
    if event.get("@level") == "error":
        found = event.get("diagnostic", {})
        detail = str(found.get("detail", "")).strip()
        where = f" ({found['address']})" if found.get("address") else ""
        return kind, "", f"{message}{where}" + (f": {detail[:500]}" if detail else "")
    return kind, message if kind in _TOLD else "", ""


class _only_for_me:  # noqa: N801 - reads as a statement
    """Files made meanwhile are readable by nobody else."""

    def __enter__(self) -> None:
        self._before = os.umask(0o077)

    def __exit__(self, *_: object) -> None:
        os.umask(self._before)
