"""Find where an answer ends by its stop strings, in text that comes in pieces cut anywhere."""

from collections.abc import Sequence


class StopMatcher:
    """Gives out text only once it is certain not to belong to a stop string.

    How the text is cut into pieces never changes what comes out: everything before the stop string that is complete
    first. Of two that are complete at the same character, the longer one counts.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = list(stops)
        self._held = ""
        self.hit = False
        """True once a stop string has been seen; nothing comes out after that."""

    def add(self, piece: str) -> str:
        """The text that is certain now and was not before."""
        if self.hit:
            return ""
        if not self._stops:
            return piece
        text = self._held + piece
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.hit, self._held = True, ""
            return text[: min(found)[1]]
        keep = self._waiting_length(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def finish(self) -> str:
        """What was held back in vain: the answer ended without completing a stop string."""
        held, self._held = self._held, ""
        return held

    def _waiting_length(self, text: str) -> int:
        """The length of the longest end of the text with which a stop string begins."""
        longest = max(len(stop) for stop in self._stops) - 1
        for length in range(min(longest, len(text)), 0, -1):
            end = text[-length:]
            if any(stop.startswith(end) for stop in self._stops):
                return length
        return 0
