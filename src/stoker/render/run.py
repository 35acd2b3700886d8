"""`render`: a spec into files."""

from collections.abc import Collection

from stoker.base.errors import InvalidInput
from stoker.render import fitting
from stoker.render.components import COMPONENTS
from stoker.render.connections import check_hosts
from stoker.render.plan import Plan
from stoker.render.writing import files
from stoker.spec import Mode, Platform


def render(platform: Platform, *, mode: Mode | None = None, only: Collection[str] = ()) -> dict[str, str]:
    """Texts by file name. `mode` None: as the spec says. `only`: these components; none means all.

    Raises InvalidInput for a component that is not there, and for a spec that no cluster could be made of: a model that
    fits no instance type, a cap that is too low, a URL that names the machine it is read on.
    """
    unknown = sorted(set(only) - set(COMPONENTS))
    if unknown:
        raise InvalidInput(
            f"no component is called {', '.join(unknown)}", param="only", hint=f"components: {', '.join(COMPONENTS)}"
        )
    plan = Plan(platform, mode or platform.global_.cluster.mode)
    check_hosts(plan)
    chosen = [component for name, component in COMPONENTS.items() if not only or name in only]
    items = [item for component in chosen for item in component(plan)]
    fitting.check(plan, items)
    return files(items)
