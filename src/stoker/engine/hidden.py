"""What no client may read in an engine's own words: keys, accounts, and where inside the network something stands.

An engine's refusal is passed on in its words, since they say what was wrong. Hosted APIs and servers that run behind
others put more into them: the key that they were sent, the organization that it belongs to, the host that did not
answer. Nothing that a client needs looks like that.
"""

import re

HIDDEN = "(hidden)"
_LEAST_KEY = 8

_OCTET = r"\d{1,3}"
_WORDS = re.compile(
    "|".join(
        (
            r"(?i:bearer)\s+[A-Za-z0-9._~+/=*-]{8,}",
            # With a digit or an asterisk in it, as keys and their masks have, and words have not.
            r"\b(?:sk|pk|rk|gsk|hf|xai|org|proj)[-_](?=[A-Za-z_.-]*[0-9*])[A-Za-z0-9_*.-]{8,}",
            # Addresses that are nobody's but ours, and names that only resolve inside, with their ports.
            rf"(?<![\d.])(?:10|127)(?:\.{_OCTET}){{3}}(?![\d.])(?::\d+)?",
            rf"(?<![\d.])(?:192\.168|169\.254|172\.(?:1[6-9]|2\d|3[01]))(?:\.{_OCTET}){{2}}(?![\d.])(?::\d+)?",
            r"\blocalhost:\d+",
            r"\b[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.(?:svc(?:\.cluster\.local)?|internal|local)\b(?::\d+)?",
        )
    )
)


class Hiding:
    """For one engine: also its own key and its own address, whatever they look like."""

    def __init__(self, key: str | None, address: str) -> None:
        # What is short, or could be any word, would take words away that were not meant.
        is_key, is_address = key is not None and len(key) >= _LEAST_KEY, "." in address or ":" in address
        self._own = [word for word, is_known in ((key, is_key), (address, is_address)) if word and is_known]

    def text(self, said: str) -> str:
        for word in self._own:
            said = said.replace(word, HIDDEN)
        return hide(said)

    def body(self, said: bytes) -> bytes:
        """Of an answer, as it came: JSON stays JSON."""
        return self.text(said.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def hide(said: str) -> str:
    """Without what looks like a key, an account or a private address."""
    return _WORDS.sub(HIDDEN, said)
