"""CEL rules of schemas (`x-kubernetes-validations`), run as the API server runs them when an object is created.

The evaluator is `common-expression-language`; the functions that Kubernetes adds are `lint/cel_functions`. What the
evaluator cannot run is said (`CANNOT`), never taken for valid.
"""

import importlib.util
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

from stoker.lint import patterns

Tree = dict[str, Any]
# Where Python could take forever over a pattern, the evaluator matches: it cannot.
_LONG_TEXT = 256
_REPEATED_GROUP = re.compile(r"\)[*+{]")


class Outcome(Enum):
    HOLDS = "holds"
    BROKEN = "broken"
    CANNOT = "cannot"
    """Nobody knows: the rule could not be evaluated here, and the text says why."""


@dataclass(frozen=True)
class Verdict:
    outcome: Outcome
    message: str = ""


_HOLDS = Verdict(Outcome.HOLDS)

# What the evaluator has of its own; operators and macros begin with a sign.
_NATIVE = frozenset(
    [
        "bool",
        "bytes",
        "contains",
        "double",
        "duration",
        "dyn",
        "endsWith",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
        "hasValue",
        "int",
        "matches",
        "optional.none",
        "optional.of",
        "optional.ofNonZeroValue",
        "or",
        "orValue",
        "size",
        "startsWith",
        "string",
        "timestamp",
        "type",
        "uint",
        "value",
    ]
)
_REPLACED = re.compile(
    r"""[rR]?\"\"\".*?\"\"\"|[rR]?'''.*?'''|[rR]"[^"]*"|[rR]'[^']*'|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|\b(?:size|matches)(?=\s*\()""",
    re.DOTALL,
)
_OURS = {"size": "sizeOf", "matches": "isMatchedBy"}
_OLD_SELF = re.compile(r"\boldSelf\b")
_WORDS = frozenset(
    [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
        "while",
    ]
)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_./-]*")
_MAX_WRITTEN = 160


@dataclass(frozen=True)
class Rule:
    """A compiled expression with the functions it needs, or the reason why there is none."""

    program: Any
    functions: Mapping[str, Callable[..., Any]]
    reason: str = ""


@lru_cache(maxsize=1)
def engine() -> Any:
    """The evaluator's native module alone: the package around it imports its command line, 20 times slower."""
    if "cel" not in sys.modules:
        spec = importlib.util.find_spec("cel")
        for folder in spec.submodule_search_locations or () if spec else ():
            for path in sorted(Path(folder).glob("cel.*.so")) + sorted(Path(folder).glob("cel.*.pyd")):
                loader = ExtensionFileLoader("cel.cel", str(path))
                native = importlib.util.spec_from_loader("cel.cel", loader)
                if native is None:
                    continue
                try:
                    module = importlib.util.module_from_spec(native)
                    loader.exec_module(module)
                except ImportError:
                    continue  # built for another interpreter; the package knows how to choose
                return module
    import cel

    return cel


@lru_cache(maxsize=4096)
def compiled(expression: str) -> Rule:
    from stoker.lint.cel_functions import FUNCTIONS

    # The evaluator counts bytes of text where CEL counts characters, and its patterns are not quite those of Go. What
    # it has of its own cannot be replaced by name.
    ours = _REPLACED.sub(lambda match: _OURS.get(match[0], match[0]), expression)
    try:
        program = engine().compile(ours)
        names = program.functions()
    except BaseException as error:  # a panic of the native code is no Exception
        _unless_ours(error)
        return Rule(None, {}, f"the evaluator cannot read it: {_said(error)}")
    dotted = {name for name in FUNCTIONS if "." in name and name in ours}  # it tells their last word alone
    known = FUNCTIONS.keys() | _NATIVE | {name.rpartition(".")[2] for name in dotted}
    unknown = sorted(name for name in names if name[:1].isalpha() and name not in known)
    if unknown:
        return Rule(None, {}, f"the evaluator has no function {unknown[0]}()")
    return Rule(program, {name: FUNCTIONS[name] for name in (*names, *dotted) if name in FUNCTIONS})


def judge_all(rules: Sequence[Mapping[str, Any]], value: Any) -> Iterator[tuple[Mapping[str, Any], Verdict]]:
    """The rules that do not hold for a value of a new object, as `typed` gives it, and those nobody can tell of."""
    asked = [rule for rule in rules if isinstance(rule.get("rule"), str) and _is_asked(rule)]
    if not asked:
        return
    try:
        context = _context(asked, value)
    except BaseException as error:  # a panic of the native code is no Exception
        _unless_ours(error)
        for rule in asked:
            yield rule, Verdict(Outcome.CANNOT, _said(error))
        return
    for rule in asked:
        verdict = _judged(rule, context)
        if verdict is not _HOLDS:
            yield rule, verdict


def judge(rule: Mapping[str, Any], value: Any) -> Verdict:
    """One rule alone."""
    return next((verdict for _, verdict in judge_all([rule], value)), _HOLDS)


def _is_asked(rule: Mapping[str, Any]) -> bool:
    """A rule on changes is not: there is nothing before a create."""
    return rule.get("optionalOldSelf") is True or not _OLD_SELF.search(rule["rule"])


def _context(rules: Sequence[Mapping[str, Any]], value: Any) -> Any:
    functions: dict[str, Callable[..., Any]] = {}
    variables = {"self": value}
    for rule in rules:
        for key in ("rule", "messageExpression"):
            if isinstance(rule.get(key), str):
                functions.update(compiled(rule[key]).functions)
        if rule.get("optionalOldSelf") is True:
            variables["oldSelf"] = engine().OptionalValue.none()
    return engine().Context(variables=variables, functions=functions)


def _judged(rule: Mapping[str, Any], context: Any) -> Verdict:
    expression = rule["rule"]
    result = _run(expression, context)
    if result is True:
        return _HOLDS
    if isinstance(result, Verdict):
        if result.outcome is Outcome.CANNOT:
            return result
        return Verdict(result.outcome, f"{result.message}, in the rule: {_cut(str(rule.get('message') or expression))}")
    if result is not False:
        return Verdict(Outcome.CANNOT, f"the rule gave {type(result).__name__} and not true or false")
    return Verdict(Outcome.BROKEN, _message(rule, context))


def _message(rule: Mapping[str, Any], context: Any) -> str:
    asked = rule.get("messageExpression")
    if isinstance(asked, str):
        said = _run(asked, context)
        if isinstance(said, str) and said.strip() and "\n" not in said:
            return said
    message = rule.get("message")
    return (
        message.strip() if isinstance(message, str) and message.strip() else f"failed rule: {_cut(str(rule['rule']))}"
    )


def _run(expression: str, context: Any) -> Any:
    """The value of an expression, or a Verdict where there is none."""
    rule = compiled(expression)
    if rule.program is None:
        return Verdict(Outcome.CANNOT, rule.reason)
    try:
        return rule.program.execute(context)
    except KeyError as error:
        return Verdict(Outcome.BROKEN, f"rule evaluation error: no such key: {error.args[0] if error.args else ''}")
    except (IndexError, ZeroDivisionError, OverflowError) as error:
        return Verdict(Outcome.BROKEN, f"rule evaluation error: {_said(error)}")
    except BaseException as error:  # a panic of the native code is no Exception
        _unless_ours(error)
        said = _said(error)
        if isinstance(error, RuntimeError) and said.startswith("Function '") and "overload" not in said:
            return Verdict(Outcome.BROKEN, f"rule evaluation error: {said}")
        return Verdict(Outcome.CANNOT, said)


@lru_cache(maxsize=8192)
def matches(pattern: str, text: str) -> bool | None:
    """Is Go's pattern in the text? Whatever they are, it takes no longer than the text is long; None where the pattern
    cannot be read."""
    quick = len(text) < _LONG_TEXT and not _REPEATED_GROUP.search(pattern)
    ours = patterns.compiled(pattern) if quick else None
    if ours is not None:
        return bool(ours.search(text))
    try:
        context = engine().Context(variables={"text": text, "pattern": patterns.in_rust(pattern)})
        return _matcher().execute(context) is True
    except BaseException as error:
        _unless_ours(error)
        return None


@lru_cache(maxsize=1)
def _matcher() -> Any:
    return engine().compile("text.matches(pattern)")


def escaped(name: str) -> str | None:
    """The name of a property as rules write it; None for one that rules cannot name."""
    if name in _WORDS:
        return f"__{name}__"
    if name.isidentifier() and "__" not in name:
        return name
    if not _NAME.fullmatch(name):
        return None
    return (
        name.replace("__", "__underscores__").replace(".", "__dot__").replace("-", "__dash__").replace("/", "__slash__")
    )


def typed(value: Any, tree: Tree, resolve: Callable[[Tree], Tree], depth: int = 0) -> Any:
    """A value with the types of its schema: durations, times and bytes as such, whole numbers as such."""
    if depth > 64:
        return None
    tree = resolve(tree)
    if isinstance(value, dict):
        properties = tree.get("properties")
        more = tree.get("additionalProperties")
        found: Tree = {}
        for key, each in value.items():
            if properties and key in properties:
                name = escaped(key)
                if name is not None:
                    found[name] = typed(each, properties[key], resolve, depth + 1)
            elif isinstance(more, dict):
                found[str(key)] = typed(each, more, resolve, depth + 1)
            else:
                found[str(key)] = each
        return found
    if isinstance(value, list):
        items = tree.get("items")
        return [typed(each, items, resolve, depth + 1) for each in value] if isinstance(items, dict) else value
    if isinstance(value, str):
        return _typed_text(value, tree.get("format"))
    if isinstance(value, int | float) and not isinstance(value, bool):
        kind = tree.get("type")
        if kind == "number":
            return float(value) if abs(value) < 1 << 1000 else value
        if kind == "integer" and isinstance(value, float) and value.is_integer():
            return int(value)
    return value


def _typed_text(text: str, form: Any) -> Any:
    if form in ("date-time", "duration", "date"):
        from stoker.lint import cel_functions

        return cel_functions.moment(text, form)
    if form == "byte":
        from stoker.lint import cel_functions

        return cel_functions.from_base64(text)
    return text


def rules_of(tree: Tree, path: str = "") -> Iterator[tuple[str, Tree]]:
    """Every rule in a schema with the place it stands at."""
    for rule in tree.get("x-kubernetes-validations", ()):
        yield path, rule
    for name, each in (tree.get("properties") or {}).items():
        yield from rules_of(each, f"{path}.{name}")
    for name in ("items", "additionalProperties"):
        if isinstance(tree.get(name), dict):
            yield from rules_of(tree[name], path + "[]")


def compile_all(trees: Sequence[Tree]) -> list[tuple[str, str]]:
    """(rule, reason) of each rule in these schemas that the evaluator cannot run, sorted; none twice."""
    expressions = {
        each[key]
        for tree in trees
        for _, each in rules_of(tree)
        for key in ("rule", "messageExpression")
        if isinstance(each.get(key), str)
    }
    return sorted((text, compiled(text).reason) for text in expressions if compiled(text).program is None)


def _unless_ours(error: BaseException) -> None:
    if isinstance(error, KeyboardInterrupt | SystemExit | MemoryError):
        raise error


def _said(error: BaseException) -> str:
    text = str(error).partition("\n")[0].split(". Check ")[0]
    return _cut(text) or type(error).__name__


def _cut(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= _MAX_WRITTEN else text[: _MAX_WRITTEN - 3] + "..."
