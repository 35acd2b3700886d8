"""What `stoker agents check` says of tools is what the toolbox makes of them."""

from pathlib import Path

from stoker.agents.tools.toolbox import Toolbox
from stoker.cli.agents_check import tool_row
from stoker.spec import loads

SPEC = """
agents:
  definitions:
    assistant: {tools: [plain, spending, asked, page, papers, other, calculator]}
    other: {}
  tools:
    plain: {python: "tools.py:act", effect: read}
    spending: {python: "tools.py:act", effect: spend}
    asked: {python: "tools.py:act", effect: write, approval: always, repeatable: true, trusted: false}
    page: {fetch: {hosts: [example.com]}}
    papers: {search: {path: papers}}
    other: {agent: other}
"""


async def test_rows_say_what_the_toolbox_makes(tmp_path: Path) -> None:
    (tmp_path / "tools.py").write_text('def act(name: str) -> str:\n    """Act."""\n    return name\n')
    (tmp_path / "papers").mkdir()
    (tmp_path / "papers" / "a.txt").write_text("one")
    agents = loads(SPEC).agents
    box = Toolbox(agents, base=tmp_path, folder=tmp_path / "runs", environ={})
    try:
        made = {each.listed_as: each for each in await box.tools_of(list(agents.tools))}
    finally:
        await box.aclose()
    assert len(made) == 7
    for name, tool in agents.tools.items():
        row, bound = tool_row(name, tool, agents), made[name]
        said = (row["effect"], row["repeatable"], row["approval"], row["trusted"])
        assert said == (bound.effect, bound.repeatable, bound.approval, bound.trusted), name
