"""OpenAI's Python SDK, unmodified: a JSON line for each case, in the order in which they are asked."""

import asyncio
import json
import os
import time
from collections.abc import Callable
from typing import Any

from openai import APIStatusError, AsyncOpenAI, OpenAI

QUESTION = "What is 6 times 7?"
CHAT: Any = {"model": "general", "messages": [{"role": "user", "content": QUESTION}], "temperature": 0}
COMPLETION: Any = {"model": "general", "prompt": "one two three", "max_tokens": 6, "temperature": 0}
RESPONSE: Any = {"model": "general", "input": QUESTION, "temperature": 0}
WITH_USAGE: Any = {"stream": True, "stream_options": {"include_usage": True}}


def at(key: str) -> Any:
    return {"base_url": os.environ["STOKER_URL"], "api_key": key, "max_retries": 0, "timeout": 60}


def with_key(key: str) -> OpenAI:
    return OpenAI(**at(key))


def say(name: str, **said: object) -> None:
    print(json.dumps({"case": name, **said}), flush=True)


def refused(name: str, asked: Callable[[], object]) -> None:
    try:
        asked()
    except APIStatusError as error:
        say(name, **{"class": type(error).__name__, "status": error.status_code, "code": error.code})
    else:
        say(name, **{"class": None})


def answers(client: OpenAI) -> None:
    chat = client.chat.completions.create(**CHAT)
    say("chat", text=chat.choices[0].message.content, usage=[chat.usage.prompt_tokens, chat.usage.completion_tokens])

    chunks = list(client.chat.completions.create(**CHAT, **WITH_USAGE))
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    say("chat stream", text=text, usage=[usage.prompt_tokens, usage.completion_tokens])

    completion = client.completions.create(**COMPLETION)
    usage = completion.usage
    say("completion", text=completion.choices[0].text, usage=[usage.prompt_tokens, usage.completion_tokens])

    chunks = list(client.completions.create(**COMPLETION, **WITH_USAGE))
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    say("completion stream", text=text, usage=[usage.prompt_tokens, usage.completion_tokens])

    response = client.responses.create(**RESPONSE)
    say("response", text=response.output_text, usage=[response.usage.input_tokens, response.usage.output_tokens])

    # The SDK's own accumulator, which is strict about the order of events.
    with client.responses.stream(**RESPONSE) as stream:
        deltas = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
        final = stream.get_final_response()
    usage = [final.usage.input_tokens, final.usage.output_tokens]
    say("response stream", text=final.output_text, deltas=deltas, usage=usage)

    # It asks for base64 and decodes it, unless told otherwise.
    made = client.embeddings.create(model="general", input=["A fox is an animal.", "one two three"])
    say("embeddings", vectors=[each.embedding for each in made.data], usage=[made.usage.prompt_tokens, 0])

    say("models", ids=[model.id for model in client.models.list()])
    say("model", ids=[client.models.retrieve("general").id])


async def async_answer(key: str) -> None:
    async with AsyncOpenAI(**at(key)) as client:
        chunks = [chunk async for chunk in await client.chat.completions.create(**CHAT, **WITH_USAGE)]
    text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    usage = chunks[-1].usage
    say("chat async stream", text=text, usage=[usage.prompt_tokens, usage.completion_tokens])


def batches(client: OpenAI) -> None:
    line = {"custom_id": "a", "method": "POST", "url": "/v1/chat/completions", "body": CHAT}
    content = json.dumps(line).encode()
    file = client.files.create(file=("größe.jsonl", content), purpose="batch")
    again = client.files.retrieve(file.id)
    batch = client.batches.create(
        input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h", metadata={"job": "nightly"}
    )
    first = batch.status
    while batch.status in ("validating", "in_progress", "finalizing"):
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    answer = json.loads(client.files.content(batch.output_file_id).text)["response"]["body"]
    usage = [answer["usage"]["prompt_tokens"], answer["usage"]["completion_tokens"]]
    say("chat batch", text=answer["choices"][0]["message"]["content"], usage=usage)

    faulty = client.batches.create(input_file_id=file.id, endpoint="/v1/embeddings", completion_window="24h")
    while (faulty := client.batches.retrieve(faulty.id)).status == "validating":
        time.sleep(0.1)
    files = [each.id for each in client.files.list(limit=1)]
    listed = [each.id for each in client.batches.list(limit=1)]
    purposes = [each.id for each in client.files.list(purpose="batch")]
    refused("a batch that has ended", lambda: client.batches.cancel(batch.id))
    deleted = client.files.delete(file.id)
    refused("a file that is gone", lambda: client.files.content(file.id))
    refused("an unknown batch", lambda: client.batches.retrieve("batch_nobody"))
    told = {
        "file": [file.object, file.filename, file.purpose, file.bytes == len(content), again == file],
        "begin": first,
        "end": [batch.status, batch.metadata, batch.request_counts.total, batch.request_counts.completed],
        "fault": [faulty.status, [each.code for each in faulty.errors.data]],
        "files": [len(files), set(files) == {file.id, batch.output_file_id}],
        "batches": listed == [faulty.id, batch.id],
        "purposes": purposes == [file.id],
        "deleted": [deleted.deleted, deleted.id == file.id],
    }
    say("files and batches", told=told)


def refusals(client: OpenAI) -> None:
    spent, month = with_key(os.environ["STOKER_SPENT_KEY"]), with_key(os.environ["STOKER_MONTH_KEY"])
    refused("wrong key", lambda: with_key("sk-stoker-nobody").chat.completions.create(**CHAT))
    refused("unknown model", lambda: client.chat.completions.create(**{**CHAT, "model": "nothing"}))
    refused("unknown model to retrieve", lambda: client.models.retrieve("nothing"))
    refused("budget that does not renew", lambda: spent.chat.completions.create(**CHAT))
    refused("budget of a month", lambda: month.chat.completions.create(**CHAT))
    refused("a refused stream", lambda: spent.chat.completions.create(**CHAT, stream=True))


if __name__ == "__main__":
    with with_key(os.environ["STOKER_KEY"]) as asker:
        answers(asker)
        asyncio.run(async_answer(os.environ["STOKER_KEY"]))
        batches(asker)
        refusals(asker)
