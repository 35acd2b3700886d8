"""Text of others, made safe to print: a manifest's names, a process's words."""


def printable(text: str) -> str:
    """`text` without line breaks and control characters, which could move the cursor or rename the window of whoever
    reads along: they are shown as escapes."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
