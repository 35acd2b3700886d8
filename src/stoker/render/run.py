"""`render`: a spec into files."""

from collections.abc import Collection
from typing import Any

from stoker.base.errors import InvalidInput
from stoker.render import fitting
from stoker.render.components import COMPONENTS
from stoker.render.connections import check_hosts
from stoker.render.items import ON_DEMAND, Item, Resource
from stoker.render.plan import Maker, Plan
from stoker.render.root import modules, network, settings
from stoker.render.writing import files, root_files
from stoker.spec import Mode, Platform


def render(
    platform: Platform, *, mode: Mode | None = None, only: Collection[str] = (), aws: Maker = "ack"
) -> dict[str, str]:
    """Texts by file name. `mode` None: as the spec says. `only`: these components; none means all. `aws`: who makes
    what the platform needs of AWS; with "terraform", `render_root` does, and no file of Terraform's is among these.

    Raises InvalidInput for a component that is not there, and for a spec that no cluster could be made of: a model that
    fits no instance type, a cap that is too low, a URL that names the machine it is read on.
    """
    return files(items_of(Plan(platform, mode or platform.global_.cluster.mode, aws), only=only))


def render_objects(plan: Plan) -> list[dict[str, Any]]:
    """The objects of Kubernetes that are applied, without those of `on-demand/`. Raises as `render`."""
    items = items_of(plan)
    return [item.object for item in items if isinstance(item, Resource) and not item.file.startswith(ON_DEMAND)]


def items_of(plan: Plan, *, only: Collection[str] = ()) -> list[Item]:
    """What `render` writes, before it is text."""
    unknown = sorted(set(only) - set(COMPONENTS))
    if unknown:
        raise InvalidInput(
            f"no component is called {', '.join(unknown)}", param="only", hint=f"components: {', '.join(COMPONENTS)}"
        )
    check_hosts(plan)
    chosen = [component for name, component in COMPONENTS.items() if not only or name in only]
    items = [item for component in chosen for item in component(plan)]
    fitting.check(plan, items)
    return items if plan.aws == "ack" else [item for item in items if isinstance(item, Resource)]


def render_root(platform: Platform, *, mode: Mode | None = None) -> dict[str, str]:
    """The root module of Terraform that makes the cluster of the objects of `render(..., aws="terraform")`, as texts by
    file name, all in one folder. Raises InvalidInput as `render` does, and for fewer than two zones."""
    plan = Plan(platform, mode or platform.global_.cluster.mode, "terraform")
    check_hosts(plan)
    network.check_zones(plan)
    return root_files(modules.render(plan), settings.backend(plan))
