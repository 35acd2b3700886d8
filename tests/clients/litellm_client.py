"""LiteLLM's client, unmodified: a JSON line for each case, in the order in which they are asked."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

import litellm
from openai import APIError

QUESTION = "What is 6 times 7?"
MESSAGES = [{"role": "user", "content": QUESTION}]
WITH_USAGE: Any = {"stream": True, "stream_options": {"include_usage": True}}


def at(key: str, model: str = "general") -> dict[str, Any]:
    """`openai/` is how LiteLLM names any server that speaks OpenAI's API."""
    url = os.environ["STOKER_URL"]
    return {"model": f"openai/{model}", "api_base": url, "api_key": key, "max_retries": 0, "timeout": 60}


def say(name: str, **said: object) -> None:
    print(json.dumps({"case": name, **said}), flush=True)


def refused(name: str, asked: Callable[[], object]) -> None:
    try:
        asked()
    except APIError as error:  # LiteLLM's own are subclasses of OpenAI's
        # It keeps our code in the message at most, so the message is what there is to compare.
        kind = type(error)
        name_of_kind = f"{kind.__module__}.{kind.__name__}"
        say(name, **{"class": name_of_kind, "status": error.status_code, "message": str(error)})
    else:
        say(name, **{"class": None})


def answers(key: str) -> None:
    chat = litellm.completion(**at(key), messages=MESSAGES, temperature=0)
    say("chat", text=chat.choices[0].message.content, usage=[chat.usage.prompt_tokens, chat.usage.completion_tokens])
    chunks = list(litellm.completion(**at(key), messages=MESSAGES, temperature=0, **WITH_USAGE))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    say("chat stream", text=text, usage=[usage.prompt_tokens, usage.completion_tokens])

    # `text-completion-openai/` is how it names /v1/completions of such a server.
    where = at(key) | {"model": "text-completion-openai/general"}
    plain: Any = {"prompt": "one two three", "max_tokens": 6, "temperature": 0}
    made = litellm.text_completion(**where, **plain)
    say("completion", text=made.choices[0].text, usage=[made.usage.prompt_tokens, made.usage.completion_tokens])
    chunks = list(litellm.text_completion(**where, **plain, **WITH_USAGE))
    text = "".join(choice.text or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    say("completion stream", text=text, usage=[usage.prompt_tokens, usage.completion_tokens])

    response = litellm.responses(**at(key), input=QUESTION, temperature=0)
    say("response", text=response.output_text, usage=[response.usage.input_tokens, response.usage.output_tokens])
    events = list(litellm.responses(**at(key), input=QUESTION, temperature=0, stream=True))
    deltas = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    final = events[-1].response
    usage = [final.usage.input_tokens, final.usage.output_tokens]
    say("response stream", text=final.output_text, deltas=deltas, usage=usage)

    vectors = litellm.embedding(**at(key), input=["A fox is an animal.", "one two three"])
    say("embeddings", vectors=[each["embedding"] for each in vectors.data], usage=[vectors.usage.prompt_tokens, 0])

    names = litellm.get_valid_models(
        check_provider_endpoint=True, custom_llm_provider="openai", api_key=key, api_base=os.environ["STOKER_URL"]
    )
    say("models", ids=names)


async def async_answer(key: str) -> None:
    """Another HTTP client than without async: aiohttp."""
    stream = await litellm.acompletion(**at(key), messages=MESSAGES, temperature=0, **WITH_USAGE)
    chunks = [chunk async for chunk in stream]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    say("chat async stream", text=text, usage=[usage.prompt_tokens, usage.completion_tokens])
    await litellm.close_litellm_async_clients()


def batches(key: str) -> None:
    where: Any = {"custom_llm_provider": "openai", "api_base": os.environ["STOKER_URL"], "api_key": key}
    body = {"model": "general", "messages": MESSAGES, "temperature": 0}
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": body}
    content = json.dumps(line).encode()
    file = litellm.create_file(file=("lines.jsonl", content), purpose="batch", **where)
    again = litellm.file_retrieve(file.id, **where)
    batch = litellm.create_batch("24h", "/v1/chat/completions", file.id, metadata={"job": "nightly"}, **where)
    first = batch.status
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(0.1)
        batch = litellm.retrieve_batch(batch.id, **where)
    answer = json.loads(litellm.file_content(batch.output_file_id, **where).text)["response"]["body"]
    usage = [answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]]
    say("chat batch", text=answer["choices"][0]["message"]["content"], usage=usage)
    listed = [each.id for each in litellm.list_batches(limit=1, **where).data]
    files = {each.id for each in litellm.file_list(**where)}
    refused("a batch that has ended", lambda: litellm.cancel_batch(batch.id, **where))
    deleted = litellm.file_delete(file.id, **where)
    told = {
        "file": [file.object, file.filename, file.purpose, file.bytes == len(content), again.id == file.id],
        "begin": first,
        "end": [batch.status, batch.metadata, batch.request_counts.total, batch.request_counts.completed],
        "files": files == {file.id, batch.output_file_id},
        "batches": listed == [batch.id],
        "deleted": [deleted.deleted, deleted.id == file.id],
    }
    say("files and batches", told=told)


def refusals(key: str) -> None:
    spent, month = os.environ["STOKER_SPENT_KEY"], os.environ["STOKER_MONTH_KEY"]
    refused("wrong key", lambda: litellm.completion(**at("sk-stoker-nobody"), messages=MESSAGES))
    refused("unknown model", lambda: litellm.completion(**at(key, "nothing"), messages=MESSAGES))
    refused("budget that does not renew", lambda: litellm.completion(**at(spent), messages=MESSAGES))
    refused("budget of a month", lambda: litellm.completion(**at(month), messages=MESSAGES))
    refused("a refused stream", lambda: list(litellm.completion(**at(spent), messages=MESSAGES, stream=True)))
    refused("a refused response", lambda: litellm.responses(**at(spent), input=QUESTION))


if __name__ == "__main__":
    litellm.suppress_debug_info = True  # it prints advertisements on stdout with each error
    answers(os.environ["STOKER_KEY"])
    asyncio.run(async_answer(os.environ["STOKER_KEY"]))
    batches(os.environ["STOKER_KEY"])
    refusals(os.environ["STOKER_KEY"])
