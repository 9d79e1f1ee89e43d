"""Confidence intervals of shares."""

from __future__ import annotations

import math

Z_95 = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


def wilson_interval(hits: int, of: int, z: float = Z_95) -> tuple[float, float]:
    """Lower and upper end of Wilson's score interval (1927) of the share `hits` / `of`, 95 % by default.

    It stays within [0, 1] and has a width at 0 and 1 too, where the normal approximation has none. Raises ValueError unless
    0 <= hits <= of and of >= 1.
    """
    if not 0 <= hits <= of or of < 1:
        raise ValueError(f"hits must be between 0 and the number of trials, and that at least 1, got {hits} of {of}")
    share = hits / of
    middle = share + z**2 / (2 * of)
    spread = z * math.sqrt(share * (1 - share) / of + z**2 / (4 * of**2))
    scale = 1 + z**2 / of
    # At the ends the formula gives 0 and 1 exactly but for rounding.
    low = 0.0 if hits == 0 else (middle - spread) / scale
    high = 1.0 if hits == of else (middle + spread) / scale
    return low, high
