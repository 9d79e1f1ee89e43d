"""Text from prompts, concept names and files, made fit to be shown: one line, printable, not too long."""

from __future__ import annotations

import re

ELLIPSIS = "…"
_ALLOWED = "\u200c\u200d\u00a0\u202f"  # not "printable" to Python: joiners in Persian, Hindi and emoji; spaces that do not break
_BREAKS = re.compile(r"[^\S\u00a0\u202f]+")


def shortened(text: str, limit: int) -> str:
    """`text` on one line in at most `limit` characters, cut in the middle, where both ends still tell names apart.

    Control characters, direction overrides and lone surrogates, which could garble what stands around them, become "\ufffd".
    """
    text = text if len(text) <= 4 * limit else text[: 2 * limit] + text[-2 * limit :]
    line = _BREAKS.sub(" ", text).strip()
    line = "".join(sign if sign.isprintable() or sign in _ALLOWED else "\ufffd" for sign in line)
    if len(line) <= limit:
        return line
    head = limit // 2
    tail = limit - head - len(ELLIPSIS)
    return line[:head].rstrip() + ELLIPSIS + line[len(line) - tail :].lstrip()


def compact(count: int) -> str:
    """A count in at most five signs: 987, "1.2k", "34k", "5.6M"."""
    for unit, sign in ((1_000_000_000, "G"), (1_000_000, "M"), (1_000, "k")):
        if count >= unit:
            return f"{count / unit:.1f}{sign}" if count < 9.95 * unit else f"{count / unit:.0f}{sign}"
    return str(count)


def counted(count: int, what: str) -> str:
    """A count with its noun: "1 layer", "1,024 layers"."""
    return f"{count:,} {what}" if count == 1 else f"{count:,} {what}s"


def percent(ratio: float) -> str:
    """A ratio as a person writes it, with a space that does not break: 0.0005 is "0.05 %"."""
    return f"{100 * ratio:.3g}\u00a0%"
