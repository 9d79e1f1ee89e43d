"""How far beyond the base prompt an edit must aim: as far as the base prompt paints the concept by itself.

Let the base prompt's pictures be the concept's with probability pi and others otherwise, p_b = pi p_c + (1 - pi) p_o, and rho(x_t) the
probability that a base picture seen at x_t becomes the concept. Scores mix by it, so eps_b = rho eps_c + (1 - rho) eps_o, which gives

    eps_c - eps_b = (1 - rho) (eps_c - eps_o),
    eps_o         = eps_b - rho / (1 - rho) (eps_c - eps_b):

the prediction without the concept lies beyond the base's by a push of rho / (1 - rho). On the way of base pictures rho is mostly
small, on the way of the concept's own pictures it is what we ask for, so with r the ratio of the mean of || eps_c - eps_b ||^2 there to its
mean here, 1 - rho = sqrt(r) and the push is 1 / sqrt(r) - 1. For "star" against "shape", on star pictures the base prompt
predicts a star, too: r is small. For "in dotted style" against nothing, it does not: r is near 1.
"""

from __future__ import annotations

import math

from torch import Tensor

LEAST, MOST = 0.5, 1.0
"""Limits of the push. Less falls short even where the base never paints the concept, as no edit goes the whole way to its target; more
is a prediction far from all that the model has learnt."""


def push(apart: Tensor, of_concept: Tensor) -> float:
    """The push for || eps_c - eps_b ||^2 `apart` [N], at states of the concept's pictures (`of_concept` [N] True) and of the base's.

    MOST where they do not differ on the base's pictures, or there are none.
    """
    own, base = apart[of_concept], apart[~of_concept]
    if not len(own) or not len(base):
        return MOST
    r = float(own.mean()) / max(float(base.mean()), 1e-300)
    return min(max(1 / math.sqrt(max(r, 1e-12)) - 1, LEAST), MOST)
