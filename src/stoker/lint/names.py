"""What Kubernetes allows as a name, a label and an annotation: each function gives what is wrong, or an empty text."""

import re

_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_LABEL_1035 = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
_QUALIFIED = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?")
_SEGMENT_REFUSED = re.compile(r"[/%]")
LABEL_LENGTH = 63
SUBDOMAIN_LENGTH = 253


def dns_label(text: str) -> str:
    """RFC 1123 label: names of containers, volumes, namespaces."""
    if len(text) > LABEL_LENGTH:
        return f"is {len(text)} characters long; {LABEL_LENGTH} is the most"
    if not _LABEL.fullmatch(text):
        return "must be lower-case letters, digits and '-', beginning and ending with a letter or digit"
    return ""


def dns_1035_label(text: str) -> str:
    """RFC 1035 label: names of Services, which become DNS names."""
    if len(text) > LABEL_LENGTH:
        return f"is {len(text)} characters long; {LABEL_LENGTH} is the most"
    if not _LABEL_1035.fullmatch(text):
        return "must be lower-case letters, digits and '-', beginning with a letter and ending with a letter or digit"
    return ""


def dns_subdomain(text: str) -> str:
    """RFC 1123 subdomain: names of most objects."""
    if len(text) > SUBDOMAIN_LENGTH:
        return f"is {len(text)} characters long; {SUBDOMAIN_LENGTH} is the most"
    if not all(_LABEL.fullmatch(part) for part in text.split(".")):
        return "must be lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit"
    return ""


def path_segment(text: str) -> str:
    """Names of roles and their bindings: anything that can stand in a URL's path."""
    if text in (".", "..") or _SEGMENT_REFUSED.search(text):
        return "must not be '.' or '..' nor hold '/' or '%'"
    return ""


def label_key(text: str) -> str:
    """`name` or `prefix/name`: keys of labels and annotations, names of taints and resources."""
    prefix, slash, name = text.rpartition("/")
    if slash and (not prefix or dns_subdomain(prefix)):
        return f"has the prefix {prefix!r}, which must be a DNS name in lower case"
    if not name or len(name) > LABEL_LENGTH or not _QUALIFIED.fullmatch(name):
        return (
            "must be 1 to 63 letters, digits, '-', '_' and '.', beginning and ending with a letter or digit, "
            "with a DNS name and '/' before it if any"
        )
    return ""


def label_value(text: str) -> str:
    if not text:
        return ""
    if len(text) > LABEL_LENGTH:
        return f"is {len(text)} characters long; {LABEL_LENGTH} is the most"
    if not _QUALIFIED.fullmatch(text):
        return "must be letters, digits, '-', '_' and '.', beginning and ending with a letter or digit"
    return ""


def port_name(text: str) -> str:
    """IANA service names: of container ports and of named probes."""
    if not 1 <= len(text) <= 15:
        return "must be 1 to 15 characters long"
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?", text) or "--" in text or not re.search("[a-z]", text):
        return "must be lower-case letters, digits and single '-', with at least one letter"
    return ""
