"""CloudWatch."""

from collections.abc import Iterator

from stoker.render.items import Item
from stoker.render.plan import Plan


def render(plan: Plan) -> Iterator[Item]:
    yield from ()
