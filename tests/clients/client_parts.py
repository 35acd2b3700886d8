"""Other people's clients, each a script that prints a JSON line for each case; and what each line has to say."""

import json
import os
import subprocess
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from flow_parts import Running

Json = dict[str, Any]

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".clients"

QUESTION = "What is 6 times 7?"
TEXTS = ["A fox is an animal.", "one two three"]
# An answer that ends only where its budget does: token 1 of the embedded engine is never chosen.
ENDLESS: Json = {"model": "general", "messages": [{"role": "user", "content": QUESTION}], "logit_bias": {"1": -100}}


@dataclass(frozen=True)
class Account:
    """A client's tenant: a key without limits, and two whose budgets are spent."""

    key: Json
    spent: Json
    month: Json


def call(running: Running, key: str, path: str, body: Json) -> Json:
    """A request as plain HTTP, by no client at all."""
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(running.url + path, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        said: Json = json.load(answer)
        return said


def make_account(running: Running, tenant: str) -> Account:
    def key(**budgets: int) -> Json:
        made = call(running, running.admin_key, "/admin/v1/keys", {"tenant": tenant, "budgets": budgets})
        if budgets:
            call(running, made["key"], "/v1/chat/completions", ENDLESS)
        return made

    return Account(key(), key(tokensTotal=100), key(tokensPerMonth=100))


def run_client(running: Running, account: Account, argv: list[str | Path]) -> list[Json]:
    """What the script says, line by line. Of our environment it has the URL and the keys."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("STOKER_", "OPENAI_"))}
    environ |= {
        "NODE_PATH": str(INSTALLED / "node_modules"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # else it asks the internet for prices when it is imported
        "STOKER_URL": running.url + "/v1",
        "STOKER_KEY": account.key["key"],
        "STOKER_SPENT_KEY": account.spent["key"],
        "STOKER_MONTH_KEY": account.month["key"],
    }
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=180, check=False)
    if done.returncode:
        pytest.fail(f"{argv[-1]}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def plain_answers(running: Running) -> Json:
    """What a client has to find on the wire, asked for without one: the answer and [prompt, completion] tokens of each
    endpoint. Streams have the same; tests/gateway and tests/engine hold that."""
    question = {"model": "general", "temperature": 0}
    chat = call(
        running,
        running.key,
        "/v1/chat/completions",
        question | {"messages": [{"role": "user", "content": QUESTION}]},
    )
    completion = call(running, running.key, "/v1/completions", question | {"prompt": "one two three", "max_tokens": 6})
    response = call(running, running.key, "/v1/responses", question | {"input": QUESTION})
    vectors = call(running, running.key, "/v1/embeddings", {"model": "general", "input": TEXTS})
    return {
        "chat": {
            "text": chat["choices"][0]["message"]["content"],
            "usage": [chat["usage"]["prompt_tokens"], chat["usage"]["completion_tokens"]],
        },
        "completion": {
            "text": completion["choices"][0]["text"],
            "usage": [completion["usage"]["prompt_tokens"], completion["usage"]["completion_tokens"]],
        },
        "response": {
            "text": response["output"][0]["content"][0]["text"],
            "usage": [response["usage"]["input_tokens"], response["usage"]["output_tokens"]],
        },
        "embeddings": {
            "vectors": [each["embedding"] for each in vectors["data"]],
            "usage": [vectors["usage"]["prompt_tokens"], 0],
        },
    }
