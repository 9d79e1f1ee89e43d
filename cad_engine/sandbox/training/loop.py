"""What the three training stages share."""

from __future__ import annotations

import math


def cosine_rate(step: int, steps: int, peak: float, warmup: int, floor: float = 0.02) -> float:
    """Learning rate at `step`: linear warm-up to `peak`, then half a cosine down to `floor * peak`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * progress)))
