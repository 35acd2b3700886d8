"""Answers of the API server that say no: errors with the Status object that clients read."""

from typing import Any

Tree = dict[str, Any]

_REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
}


class ApiError(Exception):
    """Answered with its code and a Status."""

    def __init__(self, code: int, message: str, reason: str | None = None, details: Tree | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.details = code, message, details or {}
        self.reason = reason if reason is not None else _REASONS.get(code, "")

    def status(self) -> Tree:
        return status("Failure", self.code, self.message, self.reason, self.details)


def status(word: str, code: int, message: str = "", reason: str = "", details: Tree | None = None) -> Tree:
    found: Tree = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": word}
    if message:
        found["message"] = message
    if reason:
        found["reason"] = reason
    if details:
        found["details"] = details
    if code != 200:
        found["code"] = code
    return found


def not_found(plural: str, group: str, name: str) -> ApiError:
    what = f"{plural}.{group}" if group else plural
    return ApiError(404, f'{what} "{name}" not found', details={"name": name, "group": group, "kind": plural})


def no_such_path() -> ApiError:
    return ApiError(404, "the server could not find the requested resource")
