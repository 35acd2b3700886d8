"""`stoker audit` against a real gateway: who changed what."""

from cli_parts import CommandLine

from stoker.cli.audit import change_in_words


async def test_a_table_of_what_was_changed_the_newest_first(cli: CommandLine) -> None:
    made = await cli.json("keys", "create", "--tenant", "acme", "--name", "app", "--budget-usd", "5")
    await cli.clock.advance(60)
    await cli.does("keys", "update", made["id"], "--budget", "usdTotal=7")
    await cli.clock.advance(60)
    assert (await cli.says("tenants", "update", "acme", "--description", "x")).code == 1
    said = await cli.does("audit")
    [header, *rows] = said.out.splitlines()
    assert header.split() == ["when", "key", "did", "object", "result", "change", "request"]
    found = (await cli.json("audit"))["records"]
    assert [row.split()[0:2] for row in rows] == [["2023-11-14", time] for time in ("22:15:20", "22:14:20", "22:13:20")]
    assert [one["request_id"] for one in found] == [row.split()[-1] for row in rows]
    assert ["conflict" in rows[0], "budgets.usdTotal: 5 -> 7" in rows[1]] == [True, True]
    assert "tenant: acme, name: app, role: user, budgets.usdTotal: 5" in rows[2]
    assert made["key"][:14] not in said.out


async def test_filters_and_a_limit_that_leaves_some_out(cli: CommandLine) -> None:
    for name in ("beta", "gamma", "delta"):
        await cli.does("tenants", "create", name)
        await cli.clock.advance(1)
    objects = [one["object"] for one in (await cli.json("audit", "--object", "tenant:g*"))["records"]]
    assert objects == ["tenant:gamma"]
    assert (await cli.json("audit", "--did", "keys.*"))["records"] == []
    assert (await cli.json("audit", "--since", "2999-01-01"))["records"] == []
    said = await cli.does("audit", "--limit", "2")
    assert len(said.out.splitlines()) == 3
    assert said.err == "there are more; --limit shows more than 2\n"
    left = await cli.json("audit", "--limit", "2")
    assert [one["object"] for one in left["records"]] == ["tenant:delta", "tenant:gamma"]
    assert left["next"] is not None


def test_a_change_in_words() -> None:
    assert change_in_words(None, None) is None
    assert change_in_words({}, {}) is None
    assert change_in_words(None, {"name": "", "team": None, "made": False, "budgets": {}, "n": 0}) == "n: 0"
    assert change_in_words({"a": {"b": 1, "c": None}}, {"a": {"b": None, "c": ["x"]}}) == 'a.b: 1 -> -, a.c: - -> ["x"]'
    assert change_in_words({"revoked_at": None}, {"revoked_at": 0.0}).startswith("revoked_at: - -> 19")  # type: ignore[union-attr]
    assert change_in_words({"a": "x" * 100}, {"a": "y"}) == "a: " + "x" * 57 + "... -> y"
