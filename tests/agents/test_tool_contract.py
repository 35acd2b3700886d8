"""What holds for all kinds of tools: one suite over each of them."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tool_boxes import toolbox

from stoker.agents.tools import schemas
from stoker.agents.tools.interface import BoundTool
from stoker.agents.tools.secrets import Secrets, forms_of
from stoker.agents.tools.toolbox import MOST_TEXT, Toolbox
from stoker.base.errors import InvalidInput, Refused, StokerError
from stoker.spec.agents import Agents, Tool

OURS = '''
import asyncio
from stoker.agents.tools import Place
from stoker.base.errors import Refused

def echo(text: str) -> str:
    """Say it again."""
    return text

def large(size: int) -> str:
    return "x" * size

def key(place: Place) -> str:
    return "the key is " + place.secrets("OWN_KEY")

def no(place: Place) -> str:
    raise Refused("no, " + place.secrets("OWN_KEY"), hint="not with " + place.secrets("OWN_KEY"))
'''
SERVER = str(Path(__file__).parent / "tool_server.py")
ENVIRON = {"OWN_KEY": "key/of=ours & theirs", "CITY_TOKEN": "city-token-1"}

# Kind, arguments that are right.
KINDS: dict[str, dict[str, Any]] = {
    "calculator": {"expression": "1 + 1"},
    "web": {"url": "https://nowhere.example/"},
    "docs": {"query": "echo"},
    "files_list": {},
    "files_read": {"path": "a.txt"},
    "files_write": {"path": "a.txt", "content": "x"},
    "echo": {"text": "x"},
    "server_add": {"a": 1, "b": 2},
    "helper": {"input": "do it"},
}
LISTED = ("calculator", "web", "docs", "files", "echo", "server", "helper")


def tools(folder: Path) -> dict[str, Any]:
    return {
        "calculator": {"calculator": True},
        "web": {"fetch": {"hosts": ["nowhere.example"], "headers": {"X-Token": "CITY_TOKEN"}}},
        "docs": {"search": {"path": "ours.py"}},
        "files": {"workspace": {}},
        "echo": {"python": "ours.py:echo"},
        "large": {"python": "ours.py:large"},
        "key": {"python": "ours.py:key"},
        "no": {"python": "ours.py:no"},
        "server": {"mcp": {"command": [sys.executable, SERVER, str(folder)], "only": ["add"]}},
        "helper": {"agent": "helper"},
    }


async def nowhere(host: str, port: int) -> list[str]:
    raise OSError


@pytest.fixture
async def box(tmp_path: Path) -> AsyncIterator[Toolbox]:
    (tmp_path / "ours.py").write_text(OURS)
    agents = {"definitions": {"helper": {"description": "Helps."}}}
    async with toolbox(tmp_path, tools(tmp_path), ENVIRON, agents=agents, resolve=nowhere) as made:
        yield made


async def the(box: Toolbox, name: str) -> BoundTool:
    listed = name.partition("_")[0]
    return {each.name: each for each in await box.tools_of([listed])}[name]


@pytest.mark.parametrize("kind", KINDS)
class TestAllKinds:
    async def test_wrong_arguments_are_refused_in_words_and_right_ones_are_let_through(
        self, box: Toolbox, kind: str
    ) -> None:
        tool = await the(box, kind)
        assert tool.check(KINDS[kind]) == KINDS[kind]
        with pytest.raises(InvalidInput, match=f"the arguments of {kind} are wrong: .*It takes"):
            tool.check({**KINDS[kind], "surprise": 1})
        for key in KINDS[kind]:
            with pytest.raises(InvalidInput, match=f"the arguments of {kind} are wrong: .*It takes: .*{key} .required"):
                tool.check({name: value for name, value in KINDS[kind].items() if name != key})
            with pytest.raises(InvalidInput, match=f"the arguments of {kind} are wrong: {key}: "):
                tool.check({**KINDS[kind], key: {"no": "thing"}})
        with pytest.raises(InvalidInput, match="have to be a JSON object"):
            tool.check("text")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="200000 are the most"):
            tool.check({**KINDS[kind], "surprise": "x" * 300_000})

    async def test_it_is_described_as_a_model_wants_it(self, box: Toolbox, kind: str) -> None:
        tool = await the(box, kind)
        function = tool.described()["function"]
        assert function["name"] == kind
        assert 0 < len(function["description"]) <= 4000
        assert function["parameters"]["type"] == "object"
        assert tool.approval == ("afterUntrusted" if tool.effect == "write" else "never")
        assert tool.trusted == (kind not in ("web", "server_add", "helper"))

    async def test_a_call_comes_to_a_result(self, box: Toolbox, kind: str) -> None:
        tool = await the(box, kind)
        if tool.agent is not None:
            assert tool.agent == "helper"
            return
        done = await tool.call(tool.check(KINDS[kind]), box.place("run_1"))
        assert done.is_error == (kind in ("web", "files_read"))
        assert done.text


async def test_tools_come_in_the_order_in_which_they_are_listed(box: Toolbox) -> None:
    found = await box.tools_of(("server", "calculator", "files", "calculator"))
    names = ["server_add", "calculator", "files_list", "files_read", "files_write"]
    assert [tool.name for tool in found] == names
    assert [tool.listed_as for tool in found] == ["server", "calculator", "files", "files", "files"]


async def test_two_tools_of_one_name(tmp_path: Path) -> None:
    """No name in platform.yaml has an underscore, so this takes a spec that was made otherwise."""
    agents = Agents.model_construct(
        definitions={}, tools={"a": Tool.model_validate({"workspace": {}}), "a_list": Tool(calculator=True)}
    )
    box = Toolbox(agents, base=tmp_path, folder=tmp_path, environ={})
    with pytest.raises(InvalidInput) as caught:
        await box.tools_of(["a", "a_list"])
    said = 'two tools are called "a_list": one of agents.tools.a, one of agents.tools.a_list'
    assert caught.value.message == said


def test_a_schema_that_would_take_for_ever_to_check() -> None:
    """Thirty levels, each of which looks at the next one twice."""
    levels: Any = {f"l{n}": {"allOf": [{"$ref": f"#/$defs/l{n + 1}"}] * 2} for n in range(30)}
    schema = {"type": "object", "allOf": [{"$ref": "#/$defs/l0"}], "$defs": {**levels, "l30": {}}}
    assert schemas.fault_of(schema) is None
    with pytest.raises(InvalidInput, match="the arguments of t take too long to check; send simpler ones"):
        schemas.checker("t", schema)({})


@pytest.mark.parametrize(
    ("schema", "fault"),
    [
        ([], 'its schema is not one of an object: it has to say "type": "object"'),
        ({"type": "array"}, 'its schema is not one of an object: it has to say "type": "object"'),
        ({"type": "object", "required": "a"}, "its schema is not JSON Schema: 'a' is not of type 'array'"),
        ({"type": "object", "description": "x" * 60_000}, "its schema has 60037 bytes; 50000 are the most"),
    ],
)
def test_schemas_that_are_none(schema: Any, fault: str) -> None:
    assert schemas.fault_of(schema) == fault


def test_a_reference_that_leads_out_of_the_schema_is_not_followed() -> None:
    schema = {"type": "object", "properties": {"x": {"$ref": "http://127.0.0.1:9/schema.json"}}}
    with pytest.raises(InvalidInput, match="t cannot be called: its schema refers to Unresolvable"):
        schemas.checker("t", schema)({"x": 1})


async def test_a_tool_that_nobody_has_written(box: Toolbox) -> None:
    with pytest.raises(InvalidInput, match=r'"nothing" is not a tool; those of agents\.tools are: calculator, web'):
        await box.tools_of(["nothing"])


class TestSecrets:
    async def test_a_function_that_returns_its_key(self, box: Toolbox) -> None:
        key = await the(box, "key")
        assert (await key.call({}, box.place("run_1"))).text == "the key is [secret OWN_KEY]"

    async def test_an_error_that_holds_a_key(self, box: Toolbox) -> None:
        no = await the(box, "no")
        with pytest.raises(Refused) as caught:
            await no.call({}, box.place("run_1"))
        assert (str(caught.value), caught.value.message, caught.value.hint) == (
            *("no, [secret OWN_KEY]", "no, [secret OWN_KEY]"),
            "not with [secret OWN_KEY]",
        )

    async def test_one_that_is_not_set(self, box: Toolbox) -> None:
        with pytest.raises(InvalidInput, match="the environment variable NOT_SET, which a tool needs, is not set"):
            box.place("run_1").secrets("NOT_SET")

    async def test_forms_in_which_one_is_found(self, box: Toolbox) -> None:
        """As it is, in a URL, in JSON, and in the base64 of whatever is around it."""
        box.place("run_1").secrets("OWN_KEY")
        for text in (
            "key/of=ours & theirs",
            "?k=key%2Fof%3Dours%20%26%20theirs",
            "?k=key%2fof%3dours+%26+theirs",
            "key/of=ours &amp; theirs",
            "a2V5L29mPW91cnMgJiB0aGVpcnM=",
            "dXNlcjprZXkvb2Y9b3VycyAmIHRoZWlycw==",  # user:key...
            "dTprZXkvb2Y9b3VycyAmIHRoZWlyczp4",  # u:key...:x
        ):
            assert "[secret OWN_KEY]" in box.redacted(text), text

    async def test_the_last_letters_of_one_in_base64_are_not_left(self, box: Toolbox) -> None:
        box.place("run_1").secrets("OWN_KEY")
        assert box.redacted("a2V5L29mPW91cnMgJiB0aGVpcnM=") == "[secret OWN_KEY]="

    async def test_one_that_somebody_else_looks_up(self, box: Toolbox) -> None:
        key = await the(box, "key")
        place = replace(box.place("run_1"), secrets=lambda name: f"value of {name}")
        assert (await key.call({}, place)).text == "the key is [secret OWN_KEY]"

    def test_what_json_escapes(self) -> None:
        assert {'quote"and\\more', 'quote\\"and\\\\more'} <= forms_of('quote"and\\more')

    def test_short_ones_are_left_alone(self) -> None:
        secrets = Secrets({"A": "1234567", "B": "12345678"})
        secrets.value("A")
        assert secrets.redacted("1234567 12345678") == "1234567 12345678"
        secrets.value("B")
        assert secrets.redacted("1234567 12345678") == "1234567 [secret B]"

    async def test_a_header_that_cannot_be_one(self, tmp_path: Path) -> None:
        tools = {"web": {"fetch": {"hosts": ["a.example"], "headers": {"X-Token": "TOKEN"}}}}
        async with toolbox(tmp_path, tools, {"TOKEN": "a\r\nHost: evil.com"}) as box:
            with pytest.raises(InvalidInput) as caught:
                await box.tools_of(["web"])
            assert caught.value.message == "the value of TOKEN holds what no header can hold, such as a line break"


async def test_a_giant_result_is_cut(box: Toolbox) -> None:
    large = await the(box, "large")
    done = await large.call({"size": 1_000_000}, box.place("run_1"))
    assert done.text == "x" * MOST_TEXT + "\n[cut: 1000000 characters, of which 200000 are shown]"


def test_the_interface_is_loaded_without_what_the_extra_brings() -> None:
    script = "import sys, stoker.agents.tools.interface; print({'jsonschema', 'mcp', 'httpx2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "set()\n"


async def test_another_agent_is_never_called(box: Toolbox) -> None:
    helper = await the(box, "helper")
    assert (helper.description, helper.agent, helper.effect) == ("Helps.", "helper", "read")
    with pytest.raises(StokerError, match="helper is the agent helper: it is begun as a run, and not called"):
        await asyncio.wait_for(helper.call({"input": "x"}, box.place("run_1")), 5)
