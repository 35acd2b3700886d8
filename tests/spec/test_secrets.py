"""Secrets that the file only names."""

import pytest

from stoker import spec
from stoker.base.errors import InvalidInput
from stoker.gateway.running import connector

PLATFORM = spec.loads(
    "llm: {models: {a: {}, b: {engine: {url: 'https://h/v1'}}, c: {engine: {url: 'https://h/v1', apiKeyEnv: C_KEY}}}}"
)
NOT_SET = "llm.models.c.engine.apiKeyEnv names the environment variable C_KEY, which is not set"


def test_the_key_of_an_engine_comes_from_the_environment() -> None:
    assert [spec.engine_key(PLATFORM, name, {"C_KEY": "sk-c"}) for name in "abc"] == [None, None, "sk-c"]


@pytest.mark.parametrize("environ", [{}, {"C_KEY": ""}])
def test_a_key_that_is_not_set_is_refused_by_name(environ: dict[str, str]) -> None:
    with pytest.raises(InvalidInput) as caught:
        spec.engine_key(PLATFORM, "c", environ)
    assert (caught.value.message, caught.value.param) == (NOT_SET, "llm.models.c.engine.apiKeyEnv")
    assert caught.value.exit_code == 2


def test_a_gateway_refuses_before_the_first_request(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("C_KEY", raising=False)
    with pytest.raises(InvalidInput, match=NOT_SET):
        connector(PLATFORM)
