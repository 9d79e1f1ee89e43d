"""The step of one round: a least-squares problem in a box, solved by accelerated projected gradients (FISTA, Beck and Teboulle 2009)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

ITERATIONS = 120


def box_least_squares(
    gradient: Tensor, rows: Tensor, ridge: Tensor, lower: Tensor, upper: Tensor, start: Tensor, iterations: int = ITERATIONS
) -> Tensor:
    """Minimise gradient . x + || rows x ||^2 + 1/2 sum_i ridge_i x_i^2 over lower <= x <= upper.

    Args:
        gradient, ridge, lower, upper, start: [k]; `ridge` positive, `start` inside the box.
        rows: [n, k], of which no k x k matrix is ever made.

    Returns:
        x [k]; after `iterations` steps, each a product with `rows` and one with its transpose.
    """
    scale = (2 * rows.square().sum(dim=0) + ridge).rsqrt()  # makes the diagonal of the quadratic 1
    rows, ridge, gradient = rows * scale, ridge * scale * scale, gradient * scale
    lower, upper, x = lower / scale, upper / scale, start / scale

    def slope(at: Tensor) -> Tensor:
        return gradient + 2 * (rows.T @ (rows @ at)) + ridge * at

    largest = _largest_eigenvalue(rows) + float(ridge.max())
    ahead, momentum = x, 1.0
    for _ in range(iterations):
        following = torch.minimum(torch.maximum(ahead - slope(ahead) / largest, lower), upper)
        faster = (1 + math.sqrt(1 + 4 * momentum * momentum)) / 2
        ahead = following + (momentum - 1) / faster * (following - x)
        x, momentum = following, faster
    return x * scale


def _largest_eigenvalue(rows: Tensor) -> float:
    """An upper estimate of the largest eigenvalue of 2 rows^T rows, by power iteration and a margin."""
    generator = torch.Generator().manual_seed(0)
    vector = torch.randn(len(rows), generator=generator).to(rows)  # in the smaller space, whose eigenvalues are the same
    length = 0.0
    for _ in range(20):
        vector = vector / vector.norm().clamp(min=1e-30)
        vector = 2 * (rows @ (rows.T @ vector))
        length = float(vector.norm())
    return 1.1 * length
