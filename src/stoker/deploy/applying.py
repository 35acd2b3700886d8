"""Doing what was planned: Terraform, controllers, objects wave by wave, and last what is no longer wanted.

Each step looks at what is there and does what is missing, so a deploy that ended anywhere goes on by being done again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from stoker.base.errors import Conflict
from stoker.deploy import inventory, lock, prerequisites, waiting
from stoker.deploy.controllers import Facts, by_hand, controllers
from stoker.deploy.planning import DeployPlan, is_made_anew
from stoker.deploy.programs import Say
from stoker.deploy.site import Site
from stoker.deploy.waves import steps
from stoker.kubernetes.cluster import Cluster, Rejected, Tree, key_of


def deploy(site: Site, plan: DeployPlan, patience: waiting.Patience, said: Say, *, force: bool = False) -> None:
    """`force`: take back the fields that others have changed since. Raises what the step that fails raises."""
    if plan.terraform is not None and site.root is not None:
        if plan.terraform.changes:
            said(f"terraform: {len(plan.terraform.changes)} changes")
            site.root.apply(plan.terraform, said)
        else:
            plan.terraform.file.unlink(missing_ok=True)
    site = site.now()
    prerequisites.check(site.plan, site.objects)
    cluster = site.connect()
    if cluster is None:
        raise Conflict("Terraform has made no cluster", hint="is the cluster among what is left out (`without`)?")
    try:
        deploy_objects(site, cluster, patience, said, force=force)
    finally:
        cluster.close()


def deploy_objects(
    site: Site,
    cluster: Cluster,
    patience: waiting.Patience,
    said: Say,
    *,
    force: bool = False,
) -> None:
    namespace, wanted = site.plan.namespace, site.objects
    there = inventory.read(cluster, namespace, site.owner)  # refused before anything is changed
    if there.is_new:
        there = replace(there, found=tuple(_found(cluster, wanted)))
    own = next(obj for obj in wanted if obj["kind"] == "Namespace" and obj["metadata"]["name"] == namespace)
    if namespace in there.found:  # written down before it carries our label
        inventory.write(cluster, namespace, site.owner, there)
    apply(cluster, own, patience, said, force=force)
    with lock.held(cluster, namespace, patience, said):
        keys = [key_of(obj) for obj in wanted]
        now = replace(there, keys=tuple({*there.keys, *keys}))
        inventory.write(cluster, namespace, site.owner, now)
        now = install_controllers(site, cluster, now, said)
        for step in steps(wanted):
            said(f"wave {step.wave.value} of 4, {step.wave.title}: {len(step.objects)} objects")
            for obj in step.objects:
                apply(cluster, obj, patience, said, force=force)
            waiting.until_ready(cluster, [key_of(obj) for obj in step.objects], patience, said)
        gone = inventory.no_longer_wanted(there, keys)
        ours = [key for key in gone if (live := cluster.get(key)) and inventory.is_ours(live)]
        removed = [key for key in ours if cluster.delete(key)]
        if removed:
            said(f"{len(removed)} objects that the file no longer asks for are removed")
        waiting.until_gone(cluster, removed, patience, said)
        inventory.write(cluster, namespace, site.owner, replace(now, keys=tuple(keys)))


def _found(cluster: Cluster, wanted: Sequence[Tree]) -> Iterator[str]:
    """Namespaces that are there, and are not ours."""
    for obj in wanted:
        if obj["kind"] == "Namespace":
            live = cluster.get(key_of(obj))
            if live is not None and not inventory.is_ours(live):
                yield obj["metadata"]["name"]


def install_controllers(site: Site, cluster: Cluster, there: inventory.Inventory, said: Say) -> inventory.Inventory:
    """Those that the objects need, at the versions that are known to fit; the inventory with them, written down before
    each. Releases of somebody else are left as they are. Raises Conflict where something is to be installed by hand and
    is not there."""
    objects: Sequence[Tree] = site.objects
    missing = [each for each in by_hand(site.plan, objects) if not all(cluster.serves(*kind) for kind in each.kinds)]
    if missing:
        what = "\n".join(f"  {each.what}: {each.command}" for each in missing)
        raise Conflict(f"these have no chart, and are not in the cluster:\n{what}", hint="install them, and go on")
    if not site.spec.deploy.controllers:
        return there
    program = site.helm()
    releases = {f"{each.namespace}/{each.name}": each for each in program.releases()}
    for each in controllers(site.plan, objects, Facts.of(site.made)):
        name = f"{each.namespace}/{each.name}"
        if name in releases and name not in there.releases:
            said(f"controller {each.name}: {releases[name].chart} is there already, and left as it is")
            continue
        if name not in there.releases:
            there = replace(there, releases=(*there.releases, name))
            inventory.write(cluster, site.plan.namespace, site.owner, there)
        said(f"controller {each.name} {each.version}: {each.why}")
        program.install(each, releases.get(name))
    return there


def apply(cluster: Cluster, obj: Tree, patience: waiting.Patience, said: Say, *, force: bool = False) -> None:
    """Raises FieldConflict where somebody else holds a field and not `force`."""
    try:
        cluster.apply(obj, force=force)
    except Rejected as error:
        key = key_of(obj)
        if not is_made_anew(key, error):
            raise
        cluster.delete(key)
        waiting.until_gone(cluster, [key], patience, said)
        cluster.apply(obj, force=True)
