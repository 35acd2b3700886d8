"""Every error that Stoker raises on purpose.

    StokerError                 exit 1, HTTP 500
      InvalidInput              exit 2, HTTP 400   the caller asked wrongly
        SpecInvalid             exit 2             platform.yaml, with the path of the key
        TooLarge                exit 2, HTTP 413
        TooSlow                 exit 2, HTTP 408   the rest of the request did not come
      PortTaken                 exit 2             another process listens there
      StateInUse                exit 2             another platform runs on this state directory
      Unauthenticated           exit 2, HTTP 401   no key, or one that nobody issued
      NotPermitted              exit 2, HTTP 403   the key is real and may not do this
      NotFound                  exit 2, HTTP 404
      Conflict                  exit 1, HTTP 409   the thing is not in a state that allows this
      Refused                   exit 1, HTTP 429   a limit or a budget says no, for now
        BudgetExhausted         exit 1, HTTP 402   a budget says no, and does not renew by itself
      UpstreamError             exit 1, HTTP 502   an engine answered with something that is not an answer
      Unavailable               exit 1, HTTP 503   it may work later
        QueueUnavailable                           Redis does not answer
        EngineUnavailable                          no engine answers
        Unreachable                                no connection could be made: nothing was sent
      TimedOut                  exit 1, HTTP 504

A message says what was wrong, which value, and what would be right; the hint says what to do next. Neither ever
holds a secret, nor the address of an engine, since clients are told both. What only the log may say (`detail`) stands
apart. Errors of outside libraries are translated, with `raise ... from`, in the module that owns the library.
"""

from collections.abc import Mapping
from typing import Any


def writable(text: str) -> str:
    """Without halves of surrogate pairs, which JSON of a client or an engine may hold, and which have no UTF-8."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


class StokerError(Exception):
    """Base of the tree. `code` is the machine-readable word of OpenAI's error shape. `detail` is for the log alone: an
    address, what the system said."""

    exit_code = 1
    status = 500
    type = "server_error"
    code = "internal_error"
    detail: str | None = None

    def __init__(self, message: str, *, hint: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.message = writable(message)
        self.hint = hint
        if code is not None:
            self.code = code

    @property
    def in_log(self) -> str:
        """The message with what only the log may say."""
        return self.message if self.detail is None else f"{self.message} ({self.detail})"


class InvalidInput(StokerError):
    """The caller asked wrongly. `param` is the path of the value at fault, such as `messages[0].role`."""

    exit_code = 2
    status = 400
    type = "invalid_request_error"
    code = "invalid_value"

    def __init__(
        self, message: str, *, param: str | None = None, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.param = param


class SpecInvalid(InvalidInput):
    """`platform.yaml` cannot mean what it says."""

    code = "invalid_spec"


class TooLarge(InvalidInput):
    status = 413
    code = "too_large"


class TooSlow(InvalidInput):
    status = 408
    code = "request_timeout"


class PortTaken(StokerError):
    exit_code = 2
    code = "port_taken"


class StateInUse(StokerError):
    exit_code = 2
    code = "state_in_use"


class Unauthenticated(StokerError):
    exit_code = 2
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class NotPermitted(StokerError):
    exit_code = 2
    status = 403
    type = "permission_error"
    code = "not_permitted"


class NotFound(StokerError):
    exit_code = 2
    status = 404
    type = "not_found_error"
    code = "not_found"


class Conflict(StokerError):
    status = 409
    type = "conflict_error"
    code = "conflict"


class Refused(StokerError):
    """A limit says no, for now. `retry_after_s` is None when waiting does not help."""

    status = 429
    type = "rate_limit_error"
    code = "rate_limited"

    def __init__(
        self,
        message: str,
        *,
        retry_after_s: float | None = None,
        hint: str | None = None,
        code: str | None = None,
        more: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s
        self.more = more or {}


class BudgetExhausted(Refused):
    status = 402
    type = "insufficient_quota"
    code = "budget_exhausted"


class UpstreamError(StokerError):
    """An engine answered, but not with an answer. `upstream_status` is the HTTP status it gave, if it got that far."""

    status = 502
    type = "upstream_error"
    code = "upstream_error"

    def __init__(
        self, message: str, *, upstream_status: int | None = None, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.upstream_status = upstream_status


class Unavailable(StokerError):
    status = 503
    type = "server_error"
    code = "unavailable"

    def __init__(
        self, message: str, *, retry_after_s: float | None = 1.0, hint: str | None = None, code: str | None = None
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.retry_after_s = retry_after_s


class QueueUnavailable(Unavailable):
    code = "queue_unavailable"


class EngineUnavailable(Unavailable):
    code = "engine_unavailable"


class Unreachable(Unavailable):
    """No connection could be made, so that nothing was sent, and nothing can have been done."""

    code = "unreachable"


class TimedOut(StokerError):
    status = 504
    type = "timeout_error"
    code = "timeout"
