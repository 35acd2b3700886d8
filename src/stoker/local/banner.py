"""What `stoker up` prints when the platform answers: for a program one line, for a person something to paste."""

import json
from dataclasses import asdict
from urllib.parse import urlsplit

from stoker.local.state import Credentials, StateDirectory
from stoker.spec import EMBEDDED, Model, Platform


def ready_line(credentials: Credentials, state: StateDirectory, platform: Platform) -> str:
    """DESIGN.md, "What scripts rely on"."""
    return json.dumps({**asdict(credentials), "state": str(state.path)})


def ready_block(credentials: Credentials, state: StateDirectory, platform: Platform) -> str:
    url, key = credentials.url, credentials.key
    models = "\n".join(f"    {name:<12} {_engine(model)}" for name, model in platform.llm.models.items())
    model = platform.gateway.default_model
    return f"""
Stoker is up.

  URL    {url}/v1
  key    {key}

  models
{models}

  A request to paste:

    curl {url}/v1/chat/completions \\
      -H "Authorization: Bearer {key}" -H "Content-Type: application/json" \\
      -d '{{"model": "{model}", "messages": [{{"role": "user", "content": "Say hello."}}], "max_tokens": 32}}'

  The same in Python (pip install openai):

    from openai import OpenAI
    client = OpenAI(base_url="{url}/v1", api_key="{key}")
    answer = client.chat.completions.create(
        model="{model}", messages=[{{"role": "user", "content": "Say hello."}}], max_tokens=32)
    print(answer.choices[0].message.content)

  logs   {state.logs}
  admin  the admin key is in {state.credentials}

Ctrl-C stops everything."""


def _engine(model: Model) -> str:
    if model.engine == EMBEDDED:
        return "embedded engine: small, on the CPU; it proves the path, not intelligence"
    return f"a server at {urlsplit(model.engine.url).hostname}"
