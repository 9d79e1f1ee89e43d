"""The one exception that means: the input cannot be used, and the message says which and what to do."""

from __future__ import annotations


class CadError(ValueError):
    """A user's mistake or an unusable file; the message is one line and names both sides and the remedy."""


def shown(text: object, limit: int = 200) -> str:
    """Foreign text for a message or a terminal: one line, nothing that controls a terminal, not endless."""
    line = "".join(character if character.isprintable() else "?" for character in str(text)[: limit + 1])
    return line if len(line) <= limit else line[:limit] + "..."


def first_line(error: BaseException) -> str:
    """The first line of what an exception says, or its name."""
    lines = str(error).strip().splitlines()
    return shown(lines[0]) if lines else type(error).__name__
