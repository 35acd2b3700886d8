"""Is the OpenAPI document true? schemathesis asks a real platform what the document allows, and what it does not.

    .venv/bin/python benchmarks/gateway/schema.py [--seconds 240] [--examples N] [--seed 1] [--who user|admin] [-- MORE]

A platform of one small model is started on a free port (`stoker up`: real Redis, the embedded engine, a worker) and
asked with a user's key, then with an admin's: the edges of each schema, made-up requests, and sequences along the
links (make a key, show it, revoke it; submit a task, show it, cancel it; upload a file, begin a batch, cancel it).
`--seconds` is the time of each run. With `--short`: few requests, the same each time, which takes half a minute for
both, each of them with its own routes.

What must hold (schema.toml says where a check is off, and why): no 5xx; no status, media type, header or body that is
not in the document; what it does not allow is refused; what it allows is taken; a method that it does not have is 405,
with `Allow`; nothing is answered without its key; what was deleted is gone, and what was made is there.

Exit code 1 if something does not, with a way to do it again.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx2

from stoker.web.client import HttpClient
from stoker.web.server import run

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SPEC = """
gateway: {maxBodyBytes: 65536, timeouts: {connectSeconds: 2, firstTokenSeconds: 10, totalSeconds: 20}}
queue: {maxAttempts: 1}
llm: {models: {general: {aliases: [gpt-4o], limits: {contextTokens: 256, maxOutputTokens: 4}}}}
tenants: {default: {}}
"""
SHORT_EXAMPLES = 2
HELLO = [{"role": "user", "content": "hello"}]


def started(work: Path) -> tuple["subprocess.Popen[bytes]", dict[str, str]]:
    spec = work / "platform.yaml"
    spec.write_text(SPEC)
    command = [str(BIN / "stoker"), "up", "--json", "--port", "0", "--state", str(work / "state"), "--file", str(spec)]
    with (work / "up.err").open("wb") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, stdin=subprocess.DEVNULL, cwd=work)
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"the platform does not start:\n{(work / 'up.err').read_text()[-4000:]}")
    return process, json.loads(line)


async def ids_of_keys(said: dict[str, str]) -> list[str]:
    async with HttpClient(said["url"].removesuffix("/v1"), key=said["admin_key"]) as client:
        return [key["id"] for key in (await client.get_json("/admin/v1/keys"))["keys"]]


def uploaded(url: str, key: str) -> str:
    """The id of a file that can be the input of a batch."""
    line = {"custom_id": "1", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": HELLO}}
    form = {"purpose": (None, "batch"), "file": ("batch.jsonl", json.dumps(line))}
    answer = httpx2.post(f"{url}/v1/files", files=form, headers={"Authorization": f"Bearer {key}"})
    made: str = answer.raise_for_status().json()["id"]
    return made


def ask(work: Path, who: str, url: str, key: str, keep: list[str], options: argparse.Namespace) -> int:
    """One run of schemathesis; its exit code."""
    command = [str(BIN / "schemathesis"), "--config-file", str(HERE / "schema.toml"), "run", f"{url}/openapi.json"]
    command += ["--url", url, "-H", f"Authorization: Bearer {key}", "--seed", str(options.seed)]
    command += ["--exclude-path", "/v1/ws", "--no-color"]
    if options.short:
        command += ["--generation-deterministic", "--max-examples", str(SHORT_EXAMPLES), "--no-shrink"]
        command += ["--exclude-tag", "admin"] if who == "user" else ["--include-tag", "admin"]
    else:
        command += ["--max-time", str(options.seconds), "--generation-database", "none"]
        command += ["--max-examples", str(options.examples)] if options.examples else []
    file = uploaded(url, key)
    environ = {**os.environ, "SCHEMA_KEEP": " ".join([*keep, file]), "SCHEMA_FILE": file}
    environ["SCHEMATHESIS_HOOKS"] = str(HERE / "schema_hooks.py")
    # Where schemathesis leaves what it found, for its own `replay`: with the platform, which is gone then.
    return subprocess.run([*command, *options.more], env=environ, cwd=work, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=240)
    parser.add_argument("--examples", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--who", choices=["user", "admin"])
    parser.add_argument("--short", action="store_true")
    parser.add_argument("more", nargs="*", help="for schemathesis itself")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="schema-") as directory:
        work = Path(directory)
        process, said = started(work)
        try:
            keep = run(ids_of_keys(said))
            url = said["url"].removesuffix("/v1")
            codes = {}
            for who, key in (("user", said["key"]), ("admin", said["admin_key"])):
                if options.who in (None, who):
                    print(f"--- with {who}'s key", flush=True)
                    codes[who] = ask(work, who, url, key, keep, options)
            log = "".join(file.read_text() for file in sorted((work / "state" / "logs").glob("gateway*.jsonl")))
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
    traces = [line for line in log.splitlines() if '"exception"' in line]
    for line in traces[:20]:
        print(f"(!) in the gateway's log: {line[:3000]}")
    print(f"exit codes of schemathesis: {codes}; {len(traces)} tracebacks in the gateway's log")
    sys.exit(1 if any(codes.values()) or traces else 0)


if __name__ == "__main__":
    main()
