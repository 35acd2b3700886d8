"""What `stoker up` prints when it is up."""

import json
from pathlib import Path

from stoker import spec
from stoker.local.banner import ready_block, ready_line
from stoker.local.state import Credentials, StateDirectory

STATE = StateDirectory(Path("/state"))
CREDENTIALS = Credentials("http://127.0.0.1:8080", "sk-stoker-user", "sk-stoker-admin", 7)


def test_for_a_script_it_is_one_line_with_the_promised_names() -> None:
    line = ready_line(CREDENTIALS, STATE, spec.loads(""))

    assert "\n" not in line
    assert json.loads(line) == {
        "url": "http://127.0.0.1:8080",
        "key": "sk-stoker-user",
        "admin_key": "sk-stoker-admin",
        "state": "/state",
        "pid": 7,
    }


def test_for_a_person_it_is_something_to_paste_without_the_admin_key() -> None:
    server = "{engine: {url: 'https://models.example/v1/hidden'}}"
    block = ready_block(CREDENTIALS, STATE, spec.loads(f"llm: {{models: {{small: {{}}, big: {server}}}}}"))

    assert "curl http://127.0.0.1:8080/v1/chat/completions" in block
    assert 'OpenAI(base_url="http://127.0.0.1:8080/v1", api_key="sk-stoker-user")' in block
    assert '"model": "small"' in block
    assert "    small        embedded engine" in block
    assert "    big          a server at models.example" in block
    assert "hidden" not in block
    assert "sk-stoker-admin" not in block
    assert block.rstrip().endswith("Ctrl-C stops everything.")
