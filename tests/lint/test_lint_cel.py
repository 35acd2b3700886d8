"""CEL rules: the functions Kubernetes adds, the types of the schema, and what cannot be evaluated is said."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from stoker.catalog import schemas
from stoker.lint import cel, patterns
from stoker.lint.cel import Outcome, Verdict

NOWHERE = Path("/nonexistent")


def judged(rule: str, value: Any = None, **more: Any) -> Verdict:
    return cel.judge({"rule": rule, "message": "broken", **more}, value)


def shipped() -> Iterator[tuple[str, dict[str, Any]]]:
    """Every custom schema that is shipped, the older variants too."""
    for api_version, kind in schemas.kinds(folder=NOWHERE):
        for each in schemas.variants(api_version, kind):
            yield f"{api_version} {kind}", each.tree


@pytest.mark.parametrize("rule", [
    "size('é') == 1",
    "'éa'.size() == 2",
    "'size(x)'.contains('size(')",
    "size([1, 2]) == 2 && size({'a': 1}) == 1",
    "'abc'.find('b.') == 'bc' && 'abc'.find('z') == ''",
    "'a1b2'.findAll('[0-9]') == ['1', '2'] && 'a1b2'.findAll('[0-9]', 1) == ['1']",
    "'a,b,c'.split(',') == ['a', 'b', 'c'] && 'a,b,c'.split(',', 2) == ['a', 'b,c']",
    "['a', 'b'].join('-') == 'a-b' && ['a', 'b'].join() == 'ab'",
    "'ÄB'.lowerAscii() == 'Äb' && 'äb'.upperAscii() == 'äB'",
    "'hello'.indexOf('l') == 2 && 'hello'.lastIndexOf('l') == 3 && 'hello'.indexOf('z') == -1",
    "[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2",
    "'hello'.substring(1, 3) == 'el' && 'hello'.substring(3) == 'lo'",
    "'hello'.replace('l', 'L') == 'heLLo' && 'hello'.replace('l', 'L', 1) == 'heLlo'",
    "'  a '.trim() == 'a' && 'abc'.charAt(1) == 'b' && 'abc'.reverse() == 'cba'",
    "[1, 2, 3].isSorted() && !['b', 'a'].isSorted()",
    "[1, 2].sum() == 3 && [3, 1].min() == 1 && [3, 1].max() == 3",
    "quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('500m').isLessThan(quantity('1'))",
    "quantity('1') == quantity('1000m') && quantity('2').compareTo(quantity('2000m')) == 0",
    "quantity('1').add(quantity('500m')) == quantity('1.5') && quantity('-1').sign() == -1",
    "isQuantity('1.5Gi') && !isQuantity('1.5GB') && quantity('2k').asInteger() == 2000",
    "isURL('https://a.b/c') && !isURL('a b') && url('https://u@a.b:80/c?d=e').getHost() == 'a.b:80'",
    "url('https://a.b:80/c').getPort() == '80' && url('https://[::1]:80/').getHostname() == '::1'",
    "url('https://a/b?c=d').getQuery() == {'c': ['d']} && url('https://a/b%20c').getEscapedPath() == '/b%20c'",
    "isIP('::1') && !isIP('1.2.3') && ip('127.0.0.1').isLoopback() && ip('::1').family() == 6",
    "ip.isCanonical('::1') && !ip.isCanonical('0:0::1')",
    "isCIDR('10.0.0.0/8') && cidr('10.0.0.0/8').containsIP(ip('10.1.1.1')) && !isCIDR('10.0.0.0')",
    "cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16') && cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')",
    "cidr('10.1.2.3/8').prefixLength() == 8 && cidr('10.1.2.3/8').ip() == ip('10.1.2.3')",
    "isSemver('1.2.3') && !isSemver('v1.2') && semver('1.2.3').isLessThan(semver('1.10.0'))",
    "semver('1.0.0-alpha').isLessThan(semver('1.0.0')) && semver('v1.2', true).minor() == 2",
    "'%s is %d'.format(['a', 3]) == 'a is 3' && '%.2f%%'.format([1.5]) == '1.50%'",
    "!format.dns1123Label().validate('abc').hasValue() && format.dns1123Label().validate('A').hasValue()",
    "sets.contains([1, 2], [1]) && sets.equivalent([1, 1], [1]) && sets.intersects([1], [1, 2])",
    "math.greatest(1, 2) == 2 && lists.range(3) == [0, 1, 2] && [1, [2]].flatten() == [1, 2]",
    "base64.encode(b'ab') == 'YWI=' && base64.decode('YWI=') == b'ab'",
])  # fmt: skip
def test_functions_that_kubernetes_has(rule: str) -> None:
    assert judged(rule) == Verdict(Outcome.HOLDS)
    assert judged(f"!({rule})") == Verdict(Outcome.BROKEN, "broken")


def test_a_missing_key_is_a_fault_as_on_the_server() -> None:
    assert judged("self.a == 1", {}) == Verdict(
        Outcome.BROKEN, "rule evaluation error: no such key: a, in the rule: broken"
    )


@pytest.mark.parametrize(("rule", "reason"), [
    ("cel.bind(x, 1, x == 1)", "the evaluator has no function bind()"),
    ("frobnicate(self)", "the evaluator has no function frobnicate()"),
    ("self.?a.hasValue()", "the evaluator cannot read it: "),
    ("self ===", "the evaluator cannot read it: "),
    ("1 + 2", "the rule gave int and not true or false"),
    ("self > 'x'", "No such overload"),
])  # fmt: skip
def test_what_cannot_be_evaluated_is_said(rule: str, reason: str) -> None:
    verdict = judged(rule, 1)

    assert verdict.outcome is Outcome.CANNOT
    assert verdict.message.startswith(reason)


def test_rules_on_changes_are_not_asked_of_a_new_object() -> None:
    assert judged("self == oldSelf", 1) == Verdict(Outcome.HOLDS)
    assert judged("oldSelf.hasValue() || self == 2", 1, optionalOldSelf=True) == Verdict(Outcome.BROKEN, "broken")


def test_the_message_is_made_where_the_rule_makes_it() -> None:
    rule = {"rule": "self.a < 3", "messageExpression": "'a is ' + string(self.a)", "message": "a is too much"}

    assert cel.judge(rule, {"a": 5}).message == "a is 5"
    assert cel.judge({**rule, "messageExpression": "self.b"}, {"a": 5}).message == "a is too much"
    assert cel.judge({"rule": "self.a < 3"}, {"a": 5}).message == "failed rule: self.a < 3"


def test_values_have_the_types_of_their_schema() -> None:
    tree = {
        "type": "object",
        "properties": {
            "wait": {"type": "string", "format": "duration"},
            "at": {"type": "string", "format": "date-time"},
            "part": {"type": "number"},
            "count": {"type": "integer"},
            "raw": {"type": "string", "format": "byte"},
            "namespace": {"type": "string"},
            "a.b-c/d__e": {"type": "string"},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }
    value = {
        "wait": "1h30m",
        "at": "2026-01-01T00:00:00Z",
        "part": 1,
        "count": 2.0,
        "raw": "YWI=",
        "namespace": "n",
        "a.b-c/d__e": "odd",
        "labels": {"a-b": "c"},
    }
    typed = cel.typed(value, tree, lambda each: each)

    for rule in (
        "self.wait > duration('1h') && self.wait == duration('90m')",
        "self.at < timestamp('2026-01-01T00:00:01Z')",
        "self.part / 2.0 == 0.5",
        "self.count / 2 == 1",
        "self.raw == b'ab'",
        "self.__namespace__ == 'n'",
        "self.a__dot__b__dash__c__slash__d__underscores__e == 'odd'",
        "self.labels['a-b'] == 'c' && !has(self.labels.z)",
    ):
        assert cel.judge({"rule": rule}, typed) == Verdict(Outcome.HOLDS), rule


def test_every_shipped_rule_compiles() -> None:
    trees = [tree for _, tree in shipped()]
    rules = {rule["rule"] for tree in trees for _, rule in cel.rules_of(tree)}

    assert len(rules) > 250
    assert cel.compile_all(trees) == []


def test_compile_all_names_what_cannot_run() -> None:
    tree = {"properties": {"a": {"items": {"x-kubernetes-validations": [{"rule": "cel.bind(x, 1, true)"}]}}}}

    assert cel.compile_all([tree]) == [("cel.bind(x, 1, true)", "the evaluator has no function bind()")]


def sample(tree: dict[str, Any], *, full: bool, depth: int = 0) -> Any:
    """A value of a schema: with every field, or with those it must have."""
    if "default" in tree:
        return tree["default"]
    if tree.get("enum"):
        return tree["enum"][0]
    if tree.get("x-kubernetes-int-or-string"):
        return 1
    kind = tree.get("type")
    if kind == "object":
        found = {
            name: sample(each, full=full, depth=depth + 1)
            for name, each in (tree.get("properties") or {}).items()
            if depth < 12 and (full or name in tree.get("required", ()) or "default" in each)
        }
        more = tree.get("additionalProperties")
        return {**found, "k": sample(more, full=full, depth=depth + 1)} if isinstance(more, dict) else found
    if kind == "array":
        return [sample(tree["items"], full=full, depth=depth + 1)] if depth < 12 else []
    if kind == "string":
        return "1h" if tree.get("format") == "duration" else "1"
    return {"integer": 1, "number": 1.5, "boolean": True}.get(str(kind), {})


def nodes(tree: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if "x-kubernetes-validations" in tree:
        yield tree
    below = [*(tree.get("properties") or {}).values(), tree.get("items"), tree.get("additionalProperties")]
    for each in below:
        if isinstance(each, dict):
            yield from nodes(each)


def test_every_shipped_rule_can_be_evaluated() -> None:
    outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
    for name, tree in shipped():
        for node in nodes(tree):
            for full in (True, False):
                value = cel.typed(sample(node, full=full), node, lambda each: each)
                for rule in node["x-kubernetes-validations"]:
                    verdict = cel.judge(rule, value)
                    outcomes[verdict.outcome] += 1
                    assert verdict.outcome is not Outcome.CANNOT, (name, rule, verdict)
    assert outcomes[Outcome.HOLDS] > 1500
    assert outcomes[Outcome.BROKEN] > 300


def test_every_shipped_pattern_can_be_read() -> None:
    def found_in(tree: Any) -> Iterator[str]:
        if isinstance(tree, dict):
            if isinstance(tree.get("pattern"), str):
                yield tree["pattern"]
            for each in tree.values():
                yield from found_in(each)
        elif isinstance(tree, list):
            for each in tree:
                yield from found_in(each)

    every = {pattern for _, tree in shipped() for pattern in found_in(tree)}
    assert len(every) > 50
    for pattern in every:
        # What Python cannot read goes to the evaluator, which reads what Go reads.
        assert patterns.compiled(pattern) is not None or cel.matches(pattern, "x") is not None, pattern


@pytest.mark.parametrize(("pattern", "text", "fits"), [
    ("^a$", "a\n", False),
    (r"^a\z", "a", True),
    ("^[[:alpha:]]+$", "ab", True),
    ("^[[:alpha:]]+$", "a1", False),
    (r"^\d$", "\u0663", False),
    (r"^\Qa.b\E$", "a.b", True),
    (r"^\Qa.b\E$", "axb", False),
    ("^(?P<name>a)$", "a", True),
    ("b", "abc", True),
    ("^[a-z[]$", "[", True),
    (r"^[\w-]+$", "a-b", True),
    (r"^[^\s]+$", "a\u00a0b", True),
    (r"^\D+$", "\u0663", True),
    ("^(?i)ab$", "AB", True),
])  # fmt: skip
def test_patterns_of_go(pattern: str, text: str, fits: bool) -> None:
    found = patterns.compiled(pattern)

    assert found is None or bool(found.search(text)) is fits
    context = {"text": text, "pattern": patterns.in_rust(pattern)}
    assert cel.engine().compile("text.matches(pattern)").execute(context) is fits
    assert cel.judge({"rule": "self.text.matches(self.pattern)"}, {"text": text, "pattern": pattern}) == (
        Verdict(Outcome.HOLDS) if fits else Verdict(Outcome.BROKEN, "failed rule: self.text.matches(self.pattern)")
    )


def test_a_pattern_that_would_take_forever_in_python_does_not() -> None:
    from stoker.lint import structural

    tree = {"type": "object", "properties": {"spec": {"type": "string", "pattern": "^(a+)+$"}}}
    schema = schemas.Schema("example.com/v1", "Toy", "Namespaced", True, "", "here", tree)
    obj = {"metadata": {"name": "a"}, "spec": "a" * 60 + "!"}

    assert [fault.kind for fault in structural.faults(obj, schema)] == ["bad-pattern"]


def test_the_command_line_of_the_evaluator_is_not_imported() -> None:
    import subprocess
    import sys

    script = (
        "import sys; from stoker.lint import cel; assert cel.judge({'rule': 'self == 1'}, 1).message == '';"
        "print([name for name in ('typer', 'rich', 'prompt_toolkit', 'cel') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
