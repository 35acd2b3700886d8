"""Texts that somebody meant to replace before applying."""

import re

_ACCOUNT = re.compile(r"X{8,}")
_ANGLE = re.compile(r"<[A-Za-z][A-Za-z0-9 _.-]{1,40}>")
_WORDS = re.compile(
    r"(?<![A-Za-z0-9])(?:YOUR[-_/ ][A-Za-z][\w-]*|CHANGE[-_]?ME|REPLACE[-_]?(?:ME|THIS|WITH)|FIXME\b)", re.IGNORECASE
)
# In the place of the account or the region of an ARN or an image; elsewhere such words are names of variables.
_IN_AWS = re.compile(r"(?:arn:[a-z-]+:[^$]*?|^)(?<![\w${])(?:AWS_)?(?:ACCOUNT[-_]?ID|REGION)(?=[:.])", re.IGNORECASE)
_AWS_EXAMPLE = "123456789012"
_LONGEST = 400


def placeholder(text: str) -> str:
    """The placeholder in a text of one line; empty where there is none. Longer texts are scripts, which have their own
    use of such words."""
    if len(text) > _LONGEST or "\n" in text.strip():
        return ""
    match = _ACCOUNT.search(text)
    if match is None and "<" in text and (text.count(" ") < 3 or text.startswith("<")):
        match = _ANGLE.search(text)
    if match is None and text.count(" ") < 3:
        match = _WORDS.search(text)
    if match is None and (text.startswith("arn:") or ".amazonaws.com" in text):
        match = _IN_AWS.search(text)
    return match[0] if match else ""


def is_example_account(text: str) -> bool:
    """Whether an ARN or an image has the account that documentation uses."""
    return _AWS_EXAMPLE in text and (text.startswith("arn:") or ".amazonaws.com" in text)
