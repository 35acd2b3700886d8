"""Whether a text is a credential: by its own form, or by the name it goes under."""

import re

# Forms that mean one thing only. The text is what is said about it.
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), "an AWS access key id"),
    (re.compile(r"-----BEGIN (?:[A-Z]+ )?PRIVATE KEY-----"), "a private key"),
    (re.compile(r"https://hooks\.slack\.com/(?:services|workflows|triggers)/\S+"), "a Slack webhook"),
    (re.compile(r"https://(?:\w{1,50}\.)?discord(?:app)?\.com/api/webhooks/\S+"), "a Discord webhook"),
    (re.compile(r"https://[\w.-]{1,200}\.webhook\.office\.com/\S+"), "a Teams webhook"),
    (re.compile(r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"), "a Slack token"),
    (re.compile(r"\b(?:ghp|gho|ghu|ghs|ghr)_[A-Za-z0-9]{30,}|\bgithub_pat_\w{30,}"), "a GitHub token"),
    (re.compile(r"\bglpat-[\w-]{18,}"), "a GitLab token"),
    (re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"), "a Hugging Face token"),
    (re.compile(r"\bsk-(?:ant-|proj-)?[A-Za-z0-9_-]{20,}"), "an API key"),
    (re.compile(r"\bAIza[\w-]{35}\b"), "a Google API key"),
)
_IN_URL = re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@]{0,200}:(?P<password>[^\s/@]{1,500})@[^\s/]")
_NAME = re.compile(
    r"(?:^|[_.-])(?:PASS(?:WORD|WD|PHRASE)?|PWD|SECRET|TOKEN|API_?KEY|ACCESS_?KEY|SECRET_?KEY|PRIVATE_?KEY|"
    r"ENCRYPTION_?KEY|MASTER_?KEY|SIGNING_?KEY|AUTH_?KEY|LICENSE_?KEY|CREDENTIALS?|WEBHOOK(?:_?URL)?)$",
    re.IGNORECASE,
)
_NAME_OF_OTHER = re.compile(
    r"(?:^|_)(?:BOS|EOS|PAD|UNK|SEP|CLS|MASK|STOP|START|IMAGE)_TOKEN$|(?:PULL|TLS|CERT|REGISTRY)_SECRET$|^PWD$",
    re.IGNORECASE,
)
# A flag such as --api-key=abc. With the value as the next word, see `flag`.
_FLAG = re.compile(r"^--?(?P<name>[A-Za-z][\w-]*)=(?P<value>.+)$", re.DOTALL)
_PLACE = re.compile(r"^(?:/|\./|~/|[A-Za-z]:\\|file:|arn:|s3:|https?://|vault:|secret:|ref\+|op://|env:)")
_NOTHING = re.compile(
    r"^(?:empty|unused|n/?a|not-needed|true|false|yes|no|on|off|none|null|nil|disabled?|enabled?|required|optional|[0-9.]+)$",
    re.I,
)

PLACEHOLDER = re.compile(
    r"^<[^<>]+>$|^\[[^\[\]]+\]$|change[-_ ]?me|replace[-_ ]?(?:me|this|with)|^x{4,}$|^\*{3,}$|^\.{3}$|^todo\b|"
    r"\byour[-_/ ]|^(?:my|the)?[-_]?(?:password|passwd|secret|token|placeholder|example|dummy|test|admin|foobar)$",
    re.IGNORECASE,
)


def by_form(text: str) -> str:
    """What the text is for certain, `an AWS access key id`; empty where its form says nothing."""
    if len(text) < 8:
        return ""
    for form, what in _FORMS:
        if form.search(text):
            return what
    match = _IN_URL.search(text) if "://" in text and "@" in text else None
    if match and not match["password"].startswith(("$", "{", "<", "%s")):
        return "a password in a URL"
    return ""


def by_name(name: str, text: str) -> str:
    """What a text is that goes under this name; empty where the name is not a credential's, or the text none."""
    if not _NAME.search(name) or _NAME_OF_OTHER.search(name):
        return ""
    webhook = "WEBHOOK" in name.upper()
    if webhook:
        return "a webhook" if text.startswith("http") and len(text) > len("https://a.example.com/") else ""
    if not text.strip() or _PLACE.match(text) or _NOTHING.match(text):
        return ""
    return "a credential"


def flag(text: str) -> tuple[str, str]:
    """Name and value of `--api-key=abc`, the name as a variable would be called; two empty texts for anything else."""
    match = _FLAG.match(text)
    return (match["name"].replace("-", "_"), match["value"]) if match else ("", "")


def shortened(text: str) -> str:
    """Enough to find it by, not enough to use it: reports are read by more people than manifests."""
    return text if PLACEHOLDER.search(text) else f"{text[:4]}..."
