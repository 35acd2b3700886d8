import asyncio
import datetime
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field
from tool_boxes import said, the_tool, toolbox

from stoker.agents.tools import Place, tool
from stoker.agents.tools.functions import Function
from stoker.agents.tools.interface import Result
from stoker.base.errors import InvalidInput, Refused, TimedOut

FILE = '''
from dataclasses import dataclass
from stoker.agents.tools import Place, tool

@dataclass
class Line:
    item: str
    count: int = 1

@tool(effect="spend", approval="always")
def order(lines: list[Line], place: Place, note: str | None = None) -> dict:
    """Order what is on the lines."""
    return {"run": place.run, "count": sum(line.count for line in lines), "note": note}
'''


def function(found: Any) -> Function:
    return Function("ours", found)


async def call(found: Any, **arguments: Any) -> Result:
    made = function(found)
    return await made.call(made.check(arguments), Place(run="run_1", folder=Path("/nowhere"), secrets=str))


def refusal(found: Any, **arguments: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        function(found).check(arguments)
    return caught.value.message


class Point(BaseModel):
    x: int
    y: int = 0


@dataclass
class Size:
    width: float


def shapes(
    point: Point, size: Size, colour: Literal["red", "blue"], day: datetime.date, tags: tuple[str, ...] = ()
) -> str:
    """Draw a shape.

    In that colour."""
    return f"{point.x} {point.y} {size.width} {colour} {day:%d.%m.%Y} {tags}"


class TestHints:
    async def test_models_dataclasses_literals_dates(self) -> None:
        done = await call(shapes, point={"x": 1}, size={"width": 2}, colour="red", day="2026-11-26", tags=["a"])
        assert done.text == "1 0 2.0 red 26.11.2026 ('a',)"

    def test_the_schema(self) -> None:
        made = function(shapes)
        assert made.description == "Draw a shape.\n\nIn that colour."
        assert made.parameters["required"] == ["point", "size", "colour", "day"]
        assert made.parameters["additionalProperties"] is False
        assert made.parameters["properties"]["colour"] == {"enum": ["red", "blue"], "type": "string"}
        assert made.parameters["properties"]["point"] == {"$ref": "#/$defs/Point"}

    def test_a_description_and_bounds_in_the_hint(self) -> None:
        def scale(by: Annotated[int, Field(ge=1, le=9, description="How much")]) -> int:
            return by

        wanted = {"by": {"type": "integer", "minimum": 1, "maximum": 9, "description": "How much"}}
        assert function(scale).parameters["properties"] == wanted
        assert refusal(scale, by=10) == (
            "the arguments of ours are wrong: by: Input should be less than or equal to 9, not '10'. "
            "It takes: by (required)"
        )

    async def test_names_that_a_model_has_itself(self) -> None:
        def copy(json: str, schema: int = 1, model_config: str = "c", _private: int = 2) -> str:
            return f"{json} {schema} {model_config} {_private}"

        assert (await call(copy, json="a", _private=3)).text == "a 1 c 3"

    def test_wrong_arguments_are_told_with_what_would_be_right(self) -> None:
        def add(a: int, b: int = 1) -> int:
            return a + b

        takes = "It takes: a (required), b"
        assert refusal(add, a="2") == (
            f"the arguments of ours are wrong: a: Input should be a valid integer, not '2'. {takes}"
        )
        assert refusal(add, b=2) == f"the arguments of ours are wrong: a: Field required. {takes}"
        assert refusal(add, a=1, c=1) == f"the arguments of ours are wrong: c: Extra inputs are not permitted. {takes}"
        assert refusal(add, a=1.5).startswith("the arguments of ours are wrong: a: Input should be a valid integer")
        with pytest.raises(InvalidInput, match=r"have to be a JSON object such as \{\}; they are a list"):
            function(add).check([1, 2])  # type: ignore[arg-type]
        deep: Any = 1
        for _ in range(100):
            deep = [deep]
        assert refusal(add, a=deep) == "the arguments of ours are nested more than 32 levels deep"
        assert refusal(add, a="x" * 300_000).startswith("the arguments of ours are 300008 bytes of JSON; 200000 are")

    def test_functions_that_cannot_be_described(self) -> None:
        def untyped(a) -> None:  # type: ignore[no-untyped-def]
            pass

        def many(*args: int) -> None:
            pass

        def odd(a: threading.Lock) -> None:
            pass

        def unknown(a: "Nowhere") -> None:  # type: ignore[name-defined] # noqa: F821
            pass

        for found, message in (
            (untyped, "ours: the parameter a of its function needs a type hint"),
            (many, r"ours: its function has \*args: int; a tool's parameters have names"),
            (odd, "ours: a type hint of its function has no JSON"),
            (unknown, "ours: the type hints of its function cannot be read: name 'Nowhere' is not defined"),
        ):
            with pytest.raises(InvalidInput, match=message):
                function(found)


class TestCalls:
    async def test_one_that_is_async_runs_on_the_loop_and_others_in_a_thread(self) -> None:
        async def there() -> bool:
            return threading.current_thread() is threading.main_thread()

        def elsewhere() -> bool:
            return threading.current_thread() is threading.main_thread()

        assert ((await call(there)).text, (await call(elsewhere)).text) == ("true", "false")

    async def test_the_place_is_given_to_whoever_asks_and_the_model_does_not_see_it(self) -> None:
        def where(a: int, at: Place) -> str:
            return f"{a} {at.run}"

        assert list(function(where).parameters["properties"]) == ["a"]
        assert (await call(where, a=1)).text == "1 run_1"

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            ("as it is", "as it is"),
            (None, "null"),
            ({"a": [1, 2.5]}, '{"a":[1,2.5]}'),
            (Point(x=1), '{"x":1,"y":0}'),
            (Size(2), '{"width":2}'),
            (datetime.date(2026, 11, 26), '"2026-11-26"'),
            (Result(text="own", is_error=True), "own"),
        ],
    )
    async def test_what_it_returns_as_text(self, value: Any, text: str) -> None:
        def give() -> Any:
            return value

        assert (await call(give)).text == text

    async def test_what_it_raises_is_an_error_without_a_trace(self) -> None:
        def fail() -> None:
            raise KeyError("no city")

        def leave() -> None:
            sys.exit("enough")

        async def stop() -> None:
            raise StopAsyncIteration

        done = await call(fail)
        assert (done.text, done.is_error) == ("KeyError: 'no city'", True)
        assert (await call(leave)).text == "SystemExit: enough"
        assert (await call(stop)).text == "StopAsyncIteration"

    async def test_an_error_of_ours_goes_on(self) -> None:
        def busy() -> None:
            raise Refused("not today")

        with pytest.raises(Refused, match="not today"):
            await call(busy)


class TestMarks:
    def test_a_decorated_function_stays_what_it_is(self) -> None:
        @tool(effect="write", repeatable=True)
        def double(n: int) -> int:
            return 2 * n

        assert double(4) == 8
        marks = function(double).marks
        assert (marks.effect, marks.repeatable, marks.approval) == ("write", True, None)

    async def test_platform_yaml_wins_over_them(self, tmp_path: Path) -> None:
        (tmp_path / "orders.py").write_text(FILE)
        path = "orders.py:order"
        tools = {"a": {"python": path}, "b": {"python": path, "effect": "read", "description": "Mine."}}
        async with toolbox(tmp_path, tools) as box:
            a, b = await box.tools_of(["a", "b"])
            assert (a.effect, a.repeatable, a.approval, a.trusted) == ("spend", False, "always", True)
            assert (b.effect, b.repeatable, b.approval) == ("read", True, "always")
            assert (a.description, b.description) == ("Order what is on the lines.", "Mine.")


class TestFinding:
    async def test_a_file_beside_platform_yaml(self, tmp_path: Path) -> None:
        (tmp_path / "more").mkdir()
        (tmp_path / "more/orders.py").write_text(FILE)
        async with toolbox(tmp_path, {"order": {"python": "more/orders.py:order"}}) as box:
            order = await the_tool(box, "order")
            done = await said(box, order, "run_7", lines=[{"item": "tea", "count": 2}, {"item": "milk"}], note="now")
            assert done.text == '{"run":"run_7","count":3,"note":"now"}'

    async def test_a_module(self, tmp_path: Path) -> None:
        async with toolbox(tmp_path, {"order": {"python": "calendar:weekday"}}) as box:
            with pytest.raises(InvalidInput, match="order: the parameter year of its function needs a type hint"):
                await box.tools_of(["order"])

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("nowhere.py:f", "nowhere.py:f cannot be loaded: FileNotFoundError"),
            ("no_such_module:f", "no_such_module:f cannot be loaded: ModuleNotFoundError: No module named"),
            ("orders.py:pay", "orders.py has no pay; it has: dataclass, Place, tool, Line, order"),
            ("orders.py:Line", "orders.py:Line is not a function; it is a type"),
            ("wrong.py:f", "wrong.py:f cannot be loaded: ZeroDivisionError: division by zero"),
        ],
    )
    async def test_what_is_not_there(self, tmp_path: Path, path: str, message: str) -> None:
        (tmp_path / "orders.py").write_text(FILE)
        (tmp_path / "wrong.py").write_text("1 / 0")
        async with toolbox(tmp_path, {"order": {"python": path}}) as box:
            with pytest.raises(InvalidInput) as caught:
                await box.tools_of(["order"])
            assert caught.value.message.startswith(message)


async def test_one_that_never_ends_holds_up_nobody(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import threading\nEND = threading.Event()\ndef slow() -> None:\n    'Waits.'\n    END.wait()\n"
    )
    async with toolbox(tmp_path, {"slow": {"python": "slow.py:slow", "timeoutSeconds": 0.05}}) as box:
        slow = await the_tool(box, "slow")
        done = await asyncio.gather(*(said(box, slow) for _ in range(50)), return_exceptions=True)
        assert {str(each) for each in done} == {"the tool slow did not end within 0.05 s"}
        assert {type(each) for each in done} == {TimedOut}
        left = [thread.daemon for thread in threading.enumerate() if thread.name == "tool"]
        assert left == [True] * 50  # no end of a process waits for them
    (module,) = (found for name, found in sys.modules.items() if name.startswith("stoker_file_slow_"))
    module.END.set()
