"""What AWS's clients raise where it is not AWS that says no."""


def unreachable() -> tuple[type[Exception], ...]:
    """No connection; an answer of something in AWS's place, such as a proxy; AWS_ENDPOINT_URL that is no URL. Raises
    ImportError where boto3 is not installed."""
    from botocore.exceptions import BotoCoreError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ResponseParserError, ValueError
