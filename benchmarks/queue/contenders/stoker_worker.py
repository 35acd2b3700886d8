"""All of Stoker's worker (`python -m stoker.worker`) beside an engine in a process of its own that answers at once:
each task is an HTTP request whose answer streams, with its lease, load and usage. The submitter is the queue's own."""

import subprocess
import sys
import tempfile
from pathlib import Path

from rules import say_ready, told

sys.path.insert(0, str(Path(__file__).parents[2] / "shared"))
from processes import Process, said_ready

HERE = Path(__file__).parent
SPEC = "llm: {models: {general: {engine: {url: http://127.0.0.1:1/v1}, limits: {concurrency: 64}}}}\n"


def work(url: str) -> None:
    """Until it is told to stop, by SIGTERM."""
    with tempfile.TemporaryDirectory() as directory:
        logs, spec = Path(directory), Path(directory) / "platform.yaml"
        spec.write_text(SPEC)
        engine = Process("engine", [sys.executable, str(HERE / "no_op_engine.py")], logs)
        argv = [sys.executable, "-P", "-m", "stoker.worker", "--spec", str(spec), "--model", "general"]
        argv += ["--replica", "general-1", "--redis", url, "--engine-url", said_ready(engine)]
        worker = Process("worker", argv, logs)
        try:
            said_ready(worker)
            say_ready()
            sys.stdin.read()
        finally:
            worker.end()
            engine.end()


if __name__ == "__main__":
    what, url, *_ = told()
    if what == "work":
        work(url)
    else:
        sys.exit(subprocess.run([sys.executable, str(HERE / "stoker_queue.py"), *sys.argv[1:]], check=False).returncode)
