"""LangChain's OpenAI integration, unmodified: a JSON line for each case, in the order in which they are asked."""

import asyncio
import json
import os
from collections.abc import Callable
from functools import reduce
from operator import add
from typing import Any

from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings
from openai import APIStatusError

QUESTION = "What is 6 times 7?"


def at(key: str) -> dict[str, Any]:
    return {"base_url": os.environ["STOKER_URL"], "api_key": key, "max_retries": 0, "timeout": 60}


def chat_model(key: str, **options: Any) -> ChatOpenAI:
    return ChatOpenAI(**at(key), **{"model": "general", "temperature": 0, **options})


def say(name: str, **said: object) -> None:
    print(json.dumps({"case": name, **said}), flush=True)


def refused(name: str, asked: Callable[[], object]) -> None:
    try:
        asked()
    except APIStatusError as error:
        say(name, **{"class": type(error).__name__, "status": error.status_code, "code": error.code})
    else:
        say(name, **{"class": None})


def tokens(usage: dict[str, Any]) -> list[int]:
    return [usage["input_tokens"], usage["output_tokens"]]


def answers(key: str) -> None:
    model = chat_model(key, stream_usage=True)
    said = model.invoke(QUESTION)
    say("chat", text=said.text, usage=tokens(said.usage_metadata))
    said = reduce(add, model.stream(QUESTION))
    say("chat stream", text=said.text, usage=tokens(said.usage_metadata))

    completion = OpenAI(**at(key), model="general", max_tokens=6, temperature=0)
    made = completion.generate(["one two three"])
    usage = made.llm_output["token_usage"]
    say("completion", text=made.generations[0][0].text, usage=[usage["prompt_tokens"], usage["completion_tokens"]])
    say("completion stream", text="".join(completion.stream("one two three")))  # it tells nobody the usage

    responses = chat_model(key, use_responses_api=True)
    said = responses.invoke(QUESTION)
    say("response", text=said.text, usage=tokens(said.usage_metadata))
    said = reduce(add, responses.stream(QUESTION))
    say("response stream", text=said.text, usage=tokens(said.usage_metadata))

    # Without this it counts with tiktoken and sends OpenAI's token ids, which mean something else to another model.
    embeddings = OpenAIEmbeddings(**at(key), model="general", check_embedding_ctx_length=False)
    vectors = embeddings.embed_documents(["A fox is an animal.", "one two three"])
    say("embeddings", vectors=vectors)


async def async_answer(key: str) -> None:
    chunks = [chunk async for chunk in chat_model(key, stream_usage=True).astream(QUESTION)]
    said = reduce(add, chunks)
    say("chat async stream", text=said.text, usage=tokens(said.usage_metadata))


def refusals(key: str) -> None:
    spent, month = os.environ["STOKER_SPENT_KEY"], os.environ["STOKER_MONTH_KEY"]
    refused("wrong key", lambda: chat_model("sk-stoker-nobody").invoke(QUESTION))
    refused("unknown model", lambda: chat_model(key, model="nothing").invoke(QUESTION))
    refused("budget that does not renew", lambda: chat_model(spent).invoke(QUESTION))
    refused("budget of a month", lambda: chat_model(month).invoke(QUESTION))
    refused("a refused stream", lambda: list(chat_model(spent).stream(QUESTION)))
    refused("a refused response", lambda: chat_model(spent, use_responses_api=True).invoke(QUESTION))


if __name__ == "__main__":
    answers(os.environ["STOKER_KEY"])
    asyncio.run(async_answer(os.environ["STOKER_KEY"]))
    refusals(os.environ["STOKER_KEY"])
