"""What S3 and boto3 say when something is wrong, as Stoker's errors. What boto3 says may hold addresses, so it is for
the log alone (`detail`)."""

import contextlib
from collections.abc import Iterator

from stoker.aws.s3_bodies import OutOfTime
from stoker.base.errors import Conflict, InvalidInput, NotFound, NotPermitted, StokerError, Unavailable

PERMISSIONS_HINT = (
    "see with `aws sts get-caller-identity` who you are; the role needs s3:GetObject, PutObject, DeleteObject, "
    "AbortMultipartUpload and, for the bucket, ListBucket (docs/training/storage.md)"
)
SIGN_IN_HINT = "sign in again, or give the process a role whose credentials renew themselves"

_NOT_SIGNED_IN = {
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidAccessKeyId",
    "InvalidToken",
    "RequestExpired",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_FORBIDDEN = {"AccessDenied", "AccountProblem", "AllAccessDisabled", "Forbidden", "InvalidObjectState", "401", "403"}
_WRONG_REGION = {"AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect", "301"}
# With a status of 4xx, and not the fault of who asks: damaged or late on the way, or at the same time as another.
_TRANSIENT = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestTimeout",
    "Throttling",
    "TooManyRequests",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}


class PreconditionFailed(Conflict):
    """The object is not as the condition of the write said."""

    code = "precondition_failed"


class NoSuchUpload(Conflict):
    """The multipart upload has been completed or aborted."""

    code = "no_such_upload"


@contextlib.contextmanager
def in_words(doing: str, bucket: str, *, has_match: bool = False) -> Iterator[None]:
    """Translate what boto3 raises meanwhile. `has_match`: the write has an `If-Match`, upon which NoSuchKey means that
    there is nothing to be replaced."""
    words = f"cannot {doing} in s3://{bucket}"
    try:
        yield
    except StokerError:
        raise
    except ImportError as exc:
        if (exc.name or "").partition(".")[0] not in ("boto3", "botocore"):
            raise
        raise InvalidInput(f"{words}: boto3 is not installed", hint="pip install 'stoker[aws]'") from exc
    except Exception as exc:
        error = _translated(exc, words)
        if has_match and isinstance(error, NotFound):
            error = PreconditionFailed(f"{words}: it is gone")
        error.detail = str(exc)[:300]
        raise error from exc


def code_of(exc: Exception) -> str:
    """What S3 calls the error; nothing for what is no answer of S3."""
    from botocore.exceptions import ClientError

    return str(exc.response.get("Error", {}).get("Code", "")) if isinstance(exc, ClientError) else ""


def _translated(exc: Exception, words: str) -> StokerError:
    from botocore import exceptions as boto
    from botocore.parsers import ResponseParserError

    if isinstance(exc, boto.ClientError):
        status = int(exc.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        return of_code(code_of(exc), status, words)
    if isinstance(exc, boto.HTTPClientError):
        cause = exc.kwargs.get("error")
        if isinstance(cause, OutOfTime):
            return OutOfTime(f"{words}: {cause.message}")
        if isinstance(cause, RecursionError):  # botocore asks for the bucket's region, and is redirected there, too
            return of_code("PermanentRedirect", 301, words)
        return Unavailable(f"{words}: {type(exc).__name__}")
    if isinstance(exc, boto.NoCredentialsError | boto.PartialCredentialsError):
        return NotPermitted(f"{words}: there are no AWS credentials", code="no_credentials", hint=SIGN_IN_HINT)
    if isinstance(
        exc,
        boto.UnauthorizedSSOTokenError | boto.SSOTokenLoadError | boto.TokenRetrievalError | boto.ProfileNotFound,
    ):
        return NotPermitted(f"{words}: {type(exc).__name__}", code="no_credentials", hint=SIGN_IN_HINT)
    if isinstance(exc, boto.ParamValidationError | boto.InvalidRegionError | boto.UnknownServiceError):
        return InvalidInput(f"{words}: {type(exc).__name__}", hint="conditional writes need boto3 1.35.70 or newer")
    if isinstance(exc, RecursionError):  # the same, where it ended elsewhere
        return of_code("PermanentRedirect", 301, words)
    # The rest of botocore's, urllib3's and the system's: a connection, an answer that is cut short or damaged, a
    # provider of credentials that does not answer.
    if (
        isinstance(exc, boto.BotoCoreError | ResponseParserError | OSError)
        or type(exc).__module__.partition(".")[0] == "urllib3"
    ):
        return Unavailable(f"{words}: {type(exc).__name__}")
    raise exc


def of_code(code: str, status: int, words: str) -> StokerError:
    """What an error of S3 means for who called."""
    said = f"{words}: S3 said {code or status}"
    if code == "NoSuchKey":
        return NotFound(f"{words}: there is no such object")
    if code == "NoSuchUpload":
        return NoSuchUpload(said)
    if code in ("PreconditionFailed", "412"):
        return PreconditionFailed(said)
    if code in _NOT_SIGNED_IN:
        return NotPermitted(said, code="no_credentials", hint=SIGN_IN_HINT)
    if code == "RequestTimeTooSkewed":
        return NotPermitted(said, hint="set the clock of this machine: it is more than 15 minutes off")
    if code in _FORBIDDEN or code.startswith("KMS."):
        return NotPermitted(said, hint=PERMISSIONS_HINT)
    if code == "NoSuchBucket":
        return InvalidInput(f"{words}: there is no such bucket", code="no_such_bucket", hint="create it, or correct it")
    if code in _WRONG_REGION:
        hint = "set AWS_REGION to the region of the bucket: aws s3api get-bucket-location --bucket NAME"
        return InvalidInput(f"{said}: the bucket is in another region", code="wrong_region", hint=hint)
    if code in _TRANSIENT or status in (404, 408, 409, 425, 429) or (status >= 500 and status != 501):
        return Unavailable(said)  # 404 without a word of S3 is not S3's
    if status in (401, 403):
        return NotPermitted(said, hint=PERMISSIONS_HINT)
    if not status:
        return Unavailable(said)
    return InvalidInput(said)
