"""What an engine says to a request before its answer has begun, and the stream that it opens."""

from stoker.base.errors import EngineUnavailable, UpstreamError
from stoker.gateway.fleet import ENGINE_FULL, Busy
from stoker.web.client import Answer, Stream, openai_error_in


class Refusal(Exception):
    """The engine answered with an error before the stream began."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


class RefusedUs(UpstreamError):
    """The engine refused the platform, not the client: its key, or its account."""


class Upstream:
    """The stream of a replica, from before it is opened until it is closed. Left as a block it is closed, unless it was
    `kept` for another block."""

    def __init__(self, busy: Busy) -> None:
        self._busy = busy
        self._is_kept = False
        self.stream: Stream | None = None
        self.first: list[bytes] = []
        """The events that came first, together."""
        busy.__enter__()

    @property
    def opened(self) -> Stream:
        assert self.stream is not None  # noqa: S101 - nobody asks before it is
        return self.stream

    def kept(self) -> "Upstream":
        self._is_kept = True
        return self

    def __enter__(self) -> "Upstream":
        self._is_kept = False
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self._is_kept:
            self._busy.__exit__(kind, error, trace)
            if self.stream is not None:
                self.stream.close()


def raise_if_ours(answer: Answer) -> None:
    """Raises for what is not the client's business: an engine that is full or draining (503), so that another replica
    or the queue does it; our own key that the engine does not take, or whose account has nothing left."""
    if answer.status == 503:
        raise EngineUnavailable("the engine takes no more requests now", code=ENGINE_FULL)
    if answer.status in (401, 403):
        raise RefusedUs(
            f"the engine does not take the platform's own key (status {answer.status})",
            hint="for who runs the platform: llm.models.*.engine.apiKeyEnv names the variable that holds it",
            upstream_status=answer.status,
        )
    if answer.status == 402 or (answer.status == 429 and _says_no_credit(answer)):
        raise RefusedUs(
            f"the platform's account at the engine has no credit left (status {answer.status})",
            hint="for who runs the platform: the bill of the hosted API",
            upstream_status=answer.status,
        )


def _says_no_credit(answer: Answer) -> bool:
    """OpenAI's word for it, which from us would mean the client's own budget."""
    error = openai_error_in(answer) or {}
    return "insufficient_quota" in (error.get("code"), error.get("type"))
