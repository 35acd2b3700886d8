"""The examples of docs/agents/tools.md are what they say."""

import re
from pathlib import Path

import pytest
import yaml

from stoker.agents.tools.functions import Function, function_at
from stoker.spec.agents import Agents

PAGE = (Path(__file__).parents[2] / "docs/agents/tools.md").read_text()
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_each_example_of_platform_yaml_is_valid(example: str) -> None:
    agents = Agents.model_validate(yaml.safe_load(example)["agents"])
    assert len(agents.tools) >= 1


def test_the_function(tmp_path: Path) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "orders.py").write_text(code)
    order = Function("order", function_at("orders.py:order", tmp_path))
    assert (order.marks.effect, order.marks.approval) == ("spend", "always")
    assert order.parameters["required"] == ["item", "count"]
    assert list(order.parameters["properties"]) == ["item", "count", "speed"]
