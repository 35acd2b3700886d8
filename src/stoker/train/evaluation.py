"""Ask a model the questions of its suites, keep what it said, score it. Torch only where the embedded decoder does not
compute the architecture."""

from collections.abc import Callable
from pathlib import Path

from stoker.spec import Run
from stoker.train.gate import Verdict


def evaluate(
    run: Run, *, here: Path, state: Path, url: str | None, key: str | None, tell: Callable[[str], None]
) -> tuple[Verdict, str]:
    """Of the run's newest whole checkpoint, exported; or of a model behind an OpenAI `url`. Samples and verdict are kept in
    the run's store under evaluations/DIGEST/. Returns the verdict and the digest of the weights that it is about."""
    raise NotImplementedError
