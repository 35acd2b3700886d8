"""Story: what an engine says is passed on in its words, without keys, accounts and private addresses."""

import pytest

from stoker.engine.hidden import Hiding, hide


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("Incorrect API key provided: sk-proj-abc123DEF456ghi.", "Incorrect API key provided: (hidden)"),
        ("Incorrect API key: sk-abcd****************wxyz", "Incorrect API key: (hidden)"),
        ("in organization org-Ab12Cd34Ef on", "in organization (hidden) on"),
        ("Authorization: Bearer eyJhbGciOi.J9.x-y_z", "Authorization: (hidden)"),
        ("cannot connect to 10.0.12.7:8000", "cannot connect to (hidden)"),
        ("http://192.168.1.4/v1 refused", "http://(hidden)/v1 refused"),
        ("http://172.20.0.9:80/", "http://(hidden)/"),
        ("169.254.169.254 timed out", "(hidden) timed out"),
        ("host vllm-0.vllm.models.svc.cluster.local:8000 is down", "host (hidden) is down"),
        ("ip-10-0-3-4.eu-west-1.compute.internal", "(hidden)"),
        ("dial localhost:6379", "dial (hidden)"),
    ],
)
def test_what_is_hidden(said: str, told: str) -> None:
    assert hide(said) == told


@pytest.mark.parametrize(
    "said",
    [
        "max_tokens is 1e9; the context is 8192 tokens",
        "the model `gpt-4o-mini-2024-07-18` does not exist",
        "messages[3].content[0].image_url.url is no data: URL",
        "version 10.2.1 of the tokenizer, step 127.0",
        "see https://platform.openai.com/docs/guides/error-codes",
        "8.8.8.8 is a public address, 172.32.0.1 too, and 110.0.0.1",
        "ask for a local copy, or an internal one",
        "org-wide-policy-of-yours, and sk-learn-models, hf_transformers_version",
        "risk-free and task-oriented-planning",
    ],
)
def test_what_a_client_needs_stays(said: str) -> None:
    assert hide(said) == said


def test_the_engines_own_key_and_address_are_hidden_whatever_they_look_like() -> None:
    hiding = Hiding("opensesame", "models.example.com:8443")
    assert hiding.text("opensesame at models.example.com:8443") == "(hidden) at (hidden)"
    assert hiding.body(b'{"a": "opensesame \xff"}') == b'{"a": "(hidden) \xff"}'
    assert Hiding(None, "h:1").text("None at all") == "None at all"
    # A service in a cluster may be called as its model is, and a key in a test may be a word.
    assert Hiding("secret", "general").text("no secret model general") == "no secret model general"
