"""Programs of others that `deploy` runs: found on PATH, asked for their version, run with words and never by a shell.

A program that is interrupted (Ctrl-C reaches the whole group of processes) is waited for: Terraform writes its state
down before it goes.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from stoker.base.errors import InvalidInput, StokerError, TimedOut

Say = Callable[[str], None]
"""Hears of what goes on, a line at a time."""
_KEPT = 40
"""Lines of what a program said that are kept for the message of its failure."""


class ProgramFailed(StokerError):
    code = "program_failed"


@dataclass(frozen=True)
class Program:
    """`environ`: what is added to the environment."""

    path: str
    name: str
    environ: Mapping[str, str]

    def output(self, *words: str, cwd: Path | None = None, timeout_s: float = 120.0) -> str:
        """What it says on stdout. Raises ProgramFailed with the end of what it said on stderr, and TimedOut."""
        try:
            done = subprocess.run(  # noqa: S603 - words of our own, without a shell
                [self.path, *words], capture_output=True, text=True, cwd=cwd, env=self._environ(), timeout=timeout_s
            )
        except subprocess.TimeoutExpired as error:
            raise TimedOut(f"{self.name} {words[0]} takes longer than {timeout_s:g} s") from error
        if done.returncode:
            raise self._failed(words, done.returncode, (done.stderr or done.stdout).splitlines())
        return done.stdout

    def lines(self, *words: str, said: Say, cwd: Path | None = None) -> None:
        """Run it, with each line of its output as it comes. Raises ProgramFailed."""
        last: list[str] = []
        with subprocess.Popen(  # noqa: S603 - as above
            [self.path, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=cwd,
            env=self._environ(),
        ) as process:
            if process.stdout is None:
                raise RuntimeError("a pipe was asked for")
            try:
                for line in process.stdout:
                    last = [*last[-_KEPT:], line.rstrip()]
                    said(line.rstrip())
            except KeyboardInterrupt:
                with contextlib.suppress(KeyboardInterrupt):
                    process.wait()
                raise
        if process.returncode:
            raise self._failed(words, process.returncode, last)

    def _environ(self) -> dict[str, str]:
        return {**os.environ, **self.environ}

    def _failed(self, words: Sequence[str], code: int, said: Sequence[str]) -> ProgramFailed:
        end = "\n".join(line for line in said if line.strip())[-2000:]
        return ProgramFailed(
            f"{self.name} {words[0]} failed ({code}):\n{end}" if end else f"{self.name} {words[0]} failed ({code})"
        )


def find(name: str, least: tuple[int, int], ask: Sequence[str], why: str, **environ: str) -> Program:
    """The program on PATH. `ask`: what makes it say its version. Raises InvalidInput where it is not there or older
    than `least`."""
    path = shutil.which(name)
    wanted = f"{name} {least[0]}.{least[1]} or later"
    if path is None:
        raise InvalidInput(f"{name} is not on PATH, and {why}", hint=f"install {wanted}")
    program = Program(path, name, environ)
    said = program.output(*ask)
    match = re.search(r"v?(\d+)\.(\d+)\.\d+", said)
    if match is None:
        raise InvalidInput(f"{name} {' '.join(ask)} says no version: {said[:100]!r}", hint=f"install {wanted}")
    if (int(match[1]), int(match[2])) < least:
        raise InvalidInput(f"{name} is {match[0]}, and {why} by {wanted}", hint=f"install {wanted}")
    return program
