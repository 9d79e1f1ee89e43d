"""The one exception that means: the input cannot be used, and the message says which and what to do."""

from __future__ import annotations


class CadError(ValueError):
    """A user's mistake or an unusable file; the message is one line and names both sides and the remedy."""
