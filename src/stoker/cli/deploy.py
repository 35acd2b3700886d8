"""`stoker deploy | diff | status | destroy`: the cluster that platform.yaml names, and no other."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from stoker.base.errors import InvalidInput, StokerError
from stoker.base.terminal import printable
from stoker.cli import show

if TYPE_CHECKING:
    from stoker.deploy.destroying import DestroyPlan
    from stoker.deploy.planning import DeployPlan, ObjectPlan
    from stoker.deploy.site import Site

_MOST_LINES = 12

_spec = click.option("-f", "--file", "spec", type=click.Path(dir_okay=False), help="The spec (default: platform.yaml).")
_state = click.option(
    "--state",
    type=click.Path(path_type=Path),
    envvar="STOKER_STATE",
    default=".stoker",
    show_default=True,
    help="Directory in whose deploy/CLUSTER Terraform works.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Say it as JSON.")
_yes = click.option("--yes", is_flag=True, help="Do not ask.")


@click.command("deploy")
@_spec
@_state
@click.option("--dry-run", is_flag=True, help="Only say what would be done, and what it costs.")
@_yes
@click.option("--force-conflicts", is_flag=True, help="Take back fields that somebody else has changed since.")
@click.option(
    "--trace", metavar="T", help="A trace of requests: what nodes would cost a month under it, by simulation."
)
@_json
def deploy(
    spec: str | None, state: Path, dry_run: bool, yes: bool, force_conflicts: bool, trace: str | None, as_json: bool
) -> int:
    """Make the cluster what platform.yaml says: plan, ask, apply, wait until it is ready.

    Interrupted anywhere, it goes on by being run again. It acts on the account and the cluster that the file names, and
    refuses any other. The plan goes to stderr; with --json to stdout.
    """
    site = _site(spec, state)
    from stoker.deploy import applying

    try:
        plan = _told_and_asked(site, dry_run, yes, force_conflicts, trace, as_json)
        if plan is None:
            return 0 if dry_run else 1
        applying.deploy(site, plan, _patience(site), _say, force=force_conflicts)
    finally:
        _forget(site)
    from stoker.deploy.site import kubectl_hint

    show.note(f"deployed {site.plan.cluster}: `stoker status` shows it")
    if site.spec.deploy.context is None:
        show.note(f"for kubectl: {kubectl_hint(site.plan)}")
    return 0


def _told_and_asked(
    site: "Site", dry_run: bool, yes: bool, force: bool, trace: str | None, as_json: bool
) -> "DeployPlan | None":
    """The plan, once a person has seen it and wants it; None where it ends here."""
    plan = _planned(site)
    costs = _costs(site, trace)
    if as_json:
        show.as_json({**_plan_as_json(plan), "cost_usd_per_month": costs})
    else:
        _show_plan(site, plan)
        _show_costs(costs)
    _refuse_what_cannot_be(plan, force=force)
    if dry_run:
        return None
    if plan.changes_nothing:
        show.note("nothing to change; waiting until all is ready")
    elif not yes and not _answer(lambda: click.confirm(f"Do this to {site.context}?", err=True)):
        show.note("nothing was done")
        return None
    return plan


@click.command("diff")
@_spec
@_state
@click.option("--exit-code", is_flag=True, help="Exit with 1 where something differs.")
@_json
def diff(spec: str | None, state: Path, exit_code: bool, as_json: bool) -> int:
    """What differs between platform.yaml and what is there: what others changed since, what the file newly asks for."""
    site = _site(spec, state)
    try:
        plan = _planned(site)
    finally:
        _forget(site)
    if as_json:
        show.as_json(_plan_as_json(plan))
    else:
        _show_differences(plan)
    return 1 if exit_code and not plan.is_as_the_file_says else 0


@click.command("status")
@_spec
@_state
@_json
def status(spec: str | None, state: Path, as_json: bool) -> int:
    """Each component of the deployed platform, and why what is not ready is not.

    Exits with 1 where something is not.
    """
    site = _site(spec, state)
    from stoker.deploy import status as statuses

    site.prepare_root()
    site = site.now()
    cluster = site.connect()
    if cluster is None:
        raise StokerError(f"there is no cluster {site.plan.cluster} yet", hint="`stoker deploy` makes it")
    try:
        found = statuses.components(site, cluster)
    finally:
        cluster.close()
    if as_json:
        rows = [
            {
                "component": each.name,
                "ready": each.ready,
                "total": each.total,
                "troubles": [{"object": str(one.key), "reason": one.reason} for one in each.troubles],
            }
            for each in found
        ]
        show.as_json({"cluster": site.plan.cluster, "components": rows, "ready": all(each.is_ready for each in found)})
    else:
        show.table(["component", "ready", "of"], [[each.name, each.ready, each.total] for each in found])
        for each in found:
            for one in each.troubles:
                click.echo(printable(f"{each.name}: {one.key}: {one.reason}"))
    return 0 if all(each.is_ready for each in found) else 1


@click.command("destroy")
@_spec
@_state
@_yes
@click.option("--delete-data", is_flag=True, help="Volumes, buckets, images, secrets and databases go, too.")
@click.option("--dry-run", is_flag=True, help="Only say what would go.")
@_json
def destroy(spec: str | None, state: Path, yes: bool, delete_data: bool, dry_run: bool, as_json: bool) -> int:
    """Remove the platform in the reverse order of deploy, and the cluster with it where Terraform made it.

    Without --delete-data what holds data stays: buckets, images, secrets and volumes. It asks for the cluster's name.
    """
    site = _site(spec, state)
    from stoker.deploy import destroying

    site.prepare_root()
    site = site.now()
    cluster = site.connect()
    try:
        plan = destroying.plan_destroy(site, cluster, delete_data=delete_data)
    finally:
        if cluster is not None:
            cluster.close()
    if as_json:
        show.as_json(_destroy_as_json(plan))
    else:
        _show_destroy(site, plan, delete_data=delete_data)
    if dry_run:
        return 0
    name = site.plan.cluster
    if plan.changes_nothing:
        show.note(f"there is nothing to remove, as far as {site.folder} and the cluster know")
        return 0
    if not yes and _answer(lambda: click.prompt(f"Type {name} to remove it", err=True)) != name:
        show.note("nothing was done")
        return 1
    destroying.destroy(site, plan, _patience(site), _say, delete_data=delete_data)
    show.note(f"{name} is gone" + (f"; {len(plan.kept)} resources that hold data are kept" if plan.kept else ""))
    return 0


def _site(spec: str | None, state: Path) -> "Site":
    """Of the file, after the file's account was compared with that of the credentials."""
    from stoker.deploy.site import Site
    from stoker.spec import load_chosen

    platform, source = load_chosen(None if spec is None else Path(spec))
    show.note(source)
    site = Site(platform, state)
    site.check()
    return site


def _planned(site: "Site") -> "DeployPlan":
    from stoker.deploy import helm
    from stoker.deploy.planning import DeployPlan, plan_objects

    _ = site.objects  # refused, if at all, before anything is asked of others
    if site.spec.deploy.controllers:
        helm.program()
    root = site.prepare_root()
    planned = None
    if root is not None:
        show.note("terraform plans (up to a minute)")
        planned = root.plan()
    site = site.now()
    cluster = None if site.is_making_the_cluster(planned) else site.connect()
    try:
        if cluster is not None:
            show.note(f"{len(site.objects)} objects are tried out on {site.context}")
        objects = plan_objects(cluster, site.objects, site.plan.namespace, site.owner)
    finally:
        if cluster is not None:
            cluster.close()
    return DeployPlan(planned, objects)


def _forget(site: "Site") -> None:
    if site.root is not None:
        site.root.forget()


def _answer(ask: Callable[[], Any]) -> Any:
    """What a person says. Raises InvalidInput where there is nobody: a script has to say --yes."""
    try:
        return ask()
    except click.Abort as error:
        if sys.stdin.isatty():
            raise
        raise InvalidInput("nobody answers whether to go on", hint="--yes does not ask") from error


def _patience(site: "Site") -> Any:
    from stoker.deploy.waiting import Patience

    return Patience(site.spec.deploy.wait_seconds)


def _say(line: str) -> None:
    show.note(printable(line))


def _refuse_what_cannot_be(plan: "DeployPlan", *, force: bool) -> None:
    """Before anything is changed."""
    if refused := plan.of("refused"):
        raise InvalidInput(
            f"the cluster refuses {len(refused)} objects:\n" + "\n".join(f"  {each.why}" for each in refused),
            hint="nothing was changed; what may not be changed in place is made anew: docs/deploy/index.md says how",
        )
    if (held := plan.of("conflict")) and not force:
        lines = [f"  {each.key}: {field} is held by {manager}" for each in held for manager, field in each.held]
        raise StokerError(
            f"somebody else has changed {len(held)} objects since:\n" + "\n".join(lines),
            hint="`stoker diff` shows the values; change platform.yaml to them, or take them back: --force-conflicts",
        )


# what people read


def _show_plan(site: "Site", plan: "DeployPlan") -> None:
    say: Callable[[str], None] = show.note
    say(f"\n{site.plan.cluster}: account {site.plan.account or '-'}, {site.plan.region}, context {site.context}")
    if plan.terraform is not None:
        counts = {action: plan.terraform.count(action) for action in ("create", "update", "replace", "delete")}
        say("terraform: " + ", ".join(f"{count} to {action}" for action, count in counts.items()))
        by_type: dict[str, int] = {}
        for change in plan.terraform.changes:
            name = f"{change.action} {change.type}"
            by_type[name] = by_type.get(name, 0) + 1
            if change.action in ("replace", "delete"):
                say(f"  {change.action} {change.address}")
        listed = [f"{name} x {count}" if count > 1 else name for name, count in by_type.items()]
        for name in listed[:_MOST_LINES]:
            say(f"  {name}")
        if len(listed) > _MOST_LINES:
            say(f"  and {len(listed) - _MOST_LINES} kinds of resources more")
    _show_controllers(site)
    say("objects: " + (", ".join(f"{count} to {name}" for name, count in _counts(plan).items()) or "none"))
    for each in plan.of("replace", "remove", "conflict", "refused"):
        say(printable(f"  {each.action} {each.key}"))
    for each in plan.of("update"):
        say(printable(f"  update {each.key}: {len(each.differences)} fields"))


def _show_controllers(site: "Site") -> None:
    from stoker.deploy.controllers import Facts, by_hand, controllers

    if site.spec.deploy.controllers:
        listed = [f"{each.name} {each.version}" for each in controllers(site.plan, site.objects, Facts())]
        show.note("controllers, by Helm: " + (", ".join(listed) or "none"))
    for each in by_hand(site.plan, site.objects):
        show.note(f"  has to be there before ({each.why}): {each.what}\n    {each.command}")


def _show_differences(plan: "DeployPlan") -> None:
    if plan.terraform is not None:
        for change in plan.terraform.drift:
            click.echo(f"terraform drift: {change.address} ({change.action})")
        for change in plan.terraform.changes:
            click.echo(f"terraform: {change.action} {change.address}")
    for each in plan.objects:
        if each.action == "unchanged" and not each.added:
            continue
        click.echo(printable(f"{each.key}: {each.action}" + (f": {each.why}" if each.why else "")))
        held = {field: manager for manager, field in each.held}
        for one in each.differences if each.action != "create" else ():
            click.echo(printable(f"  {one}"))
        for field, manager in held.items():
            click.echo(printable(f"  {field} was changed by {manager}"))
        for manager, field in each.added:
            click.echo(printable(f"  {field} was added by {manager}, and a deploy leaves it"))
    if plan.is_as_the_file_says:
        click.echo("no difference")


def _counts(plan: "DeployPlan") -> dict[str, int]:
    found: dict[str, int] = {}
    for each in plan.objects:
        found[each.action] = found.get(each.action, 0) + 1
    if "unchanged" in found:
        found["leave as they are"] = found.pop("unchanged")
    return found


def _show_destroy(site: "Site", plan: "DestroyPlan", *, delete_data: bool) -> None:
    show.note(
        f"\n{site.plan.cluster}: {len(plan.objects)} objects and {len(plan.resources)} resources of Terraform's go"
    )
    for each in plan.volumes:
        name = f"{each.claim.namespace}/{each.claim.name}" + (f" ({each.disk})" if each.disk else "")
        show.note(printable(f"  disk of {name} " + ("goes" if delete_data else "stays in EC2, and costs")))
    for address in plan.kept:
        show.note(f"  {address} stays, with what is in it (--delete-data removes it)")


# what scripts read


def _plan_as_json(plan: "DeployPlan") -> dict[str, Any]:
    root = None
    if plan.terraform is not None:
        root = {
            name: [{"address": each.address, "action": each.action} for each in listed]
            for name, listed in (("changes", plan.terraform.changes), ("drift", plan.terraform.drift))
        }
    objects = [_object_as_json(each) for each in plan.objects if each.action != "unchanged" or each.added]
    return {"terraform": root, "objects": objects, "unchanged": len(plan.of("unchanged"))}


def _object_as_json(each: "ObjectPlan") -> dict[str, Any]:
    from stoker.deploy.differences import ABSENT

    def value(one: Any) -> Any:
        return None if one is ABSENT else one

    return {
        "object": str(each.key),
        "action": each.action,
        "differences": [
            {"path": one.path, "before": value(one.before), "after": value(one.after)}
            for one in (each.differences if each.action != "create" else ())
        ],
        "held": [{"manager": manager, "field": field} for manager, field in each.held],
        "added": [{"manager": manager, "field": field} for manager, field in each.added],
        "why": each.why,
    }


def _destroy_as_json(plan: "DestroyPlan") -> dict[str, Any]:
    return {
        "objects": [str(key) for key in plan.objects],
        "volumes": [{"claim": f"{each.claim.namespace}/{each.claim.name}", "disk": each.disk} for each in plan.volumes],
        "resources": list(plan.resources),
        "kept": list(plan.kept),
    }


def _costs(site: "Site", trace: str | None) -> dict[str, Any]:
    from stoker.deploy.costs import as_json, simulated
    from stoker.render.estimate import estimate

    found = as_json(estimate(site.plan))
    if trace is not None:
        show.note(f"nodes under {printable(trace)} are simulated")
        found["simulated"] = simulated(site.objects, trace, site.plan.region)
    return found


def _show_costs(costs: dict[str, Any]) -> None:
    """Dollars a month: least, when nobody asks for anything, and most, when all limits are reached all month."""
    rows = [[line["what"], f"{line['low']:,.2f}", f"{line['high']:,.2f}"] for line in costs["lines"]]
    rows.append(["total", f"{costs['low']:,.2f}", f"{costs['high']:,.2f}"])
    heads = ["USD a month", "at least", "at most"]
    for line in show.plain_table(heads, rows, [False, True, True]).splitlines():
        show.note(f"  {line}")
    show.note("  not counted: " + "; ".join(costs["not_included"]))
    for note in costs["notes"]:
        show.note(f"  {note}")
    if (said := costs.get("simulated")) is not None:
        show.note(
            f"  nodes under {said['trace']}: {said['usd_per_month']:,.2f} a month ({said['usd_per_hour']:,.2f} an "
            f"hour, at most {said['nodes_at_most']} nodes; first token p95 {said['ttft_s_p95']:.1f} s), by simulation"
        )
