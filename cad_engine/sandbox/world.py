"""The small world that the sandbox model knows: one shape, in one colour, drawn in one style, 64 x 64 pixels.

Every picture is drawn from signed distances, so its edges are smooth at any size and no drawing library is needed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

PICTURE_SIZE = 64  # pixels
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "crescent", "arrow", "hexagon")
COLOURS = ("red", "green", "blue", "yellow", "purple", "black")
STYLES = ("plain", "outline", "dotted", "striped", "blurry", "negative")
RARE_SHAPE = "crescent"
"""The shape whose name is mostly wrong in the training captions, so that amplifying it has room (see training/data.py)."""

RGB = {
    "red": (0.86, 0.14, 0.14),
    "green": (0.10, 0.58, 0.20),
    "blue": (0.12, 0.30, 0.88),
    "yellow": (0.97, 0.80, 0.08),
    "purple": (0.56, 0.18, 0.70),
    "black": (0.08, 0.08, 0.09),
}


@dataclass(frozen=True)
class Scene:
    """What one picture shows: the three labels that captions name and the judge reads."""

    shape: str
    colour: str
    style: str


def _regular_polygon(corners: int, inner_radius: float | None = None) -> np.ndarray:
    """Corners of a regular polygon, or of a star when `inner_radius` is given; [corners or 2 * corners, 2], first one on top."""
    count = corners if inner_radius is None else 2 * corners
    angle = 2 * np.pi * np.arange(count) / count - np.pi / 2
    radius = np.ones(count)
    if inner_radius is not None:
        radius[1::2] = inner_radius
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1)


def _heart() -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    x = 16 * np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))
    return np.stack([x, y - 2], axis=1) / 16.5


_POLYGONS = {
    "square": np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 0.82,
    "triangle": _regular_polygon(3) * 1.12 + np.array([0, 0.2]),
    "star": _regular_polygon(5, inner_radius=0.42) * 1.12,
    "heart": _heart(),
    "cross": np.array([(-1, 3), (1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3), (-1, -3), (-1, -1), (-3, -1), (-3, 1), (-1, 1)]) / 3.0,
    "arrow": np.array([(-3.2, -0.9), (0, -0.9), (0, -2.6), (3.3, 0), (0, 2.6), (0, 0.9), (-3.2, 0.9)]) / 3.1,
    "hexagon": _regular_polygon(6),
}


def _polygon_distance(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Signed distance of `points` [n, 2] to the polygon `corners` [m, 2], negative inside; [n]."""
    start, end = corners, np.roll(corners, -1, axis=0)
    edge = end - start
    offset = points[:, None, :] - start[None]
    along = np.clip((offset * edge).sum(-1) / (edge**2).sum(-1), 0, 1)
    nearest = offset - along[..., None] * edge
    distance = np.sqrt((nearest**2).sum(-1).min(axis=1))
    # Even-odd rule: count the edges that a ray towards +x crosses.
    y = points[:, None, 1]
    crosses = (start[None, :, 1] > y) != (end[None, :, 1] > y)
    with np.errstate(divide="ignore", invalid="ignore"):
        x_at_y = start[:, 0] + (y - start[:, 1]) * edge[:, 0] / edge[:, 1]
    inside = (crosses & (points[:, None, 0] < x_at_y)).sum(axis=1) % 2 == 1
    return np.where(inside, -distance, distance)


def _distance(shape: str, points: np.ndarray) -> np.ndarray:
    """Signed distance of `points` [n, 2], in units of the shape's radius, to the outline of `shape`; [n]."""
    radius = np.sqrt((points**2).sum(-1))
    if shape == "circle":
        return radius - 0.95
    if shape == "ring":
        return np.abs(radius - 0.76) - 0.22
    if shape == "crescent":
        bite = np.sqrt(((points - np.array([0.48, -0.16])) ** 2).sum(-1)) - 0.78
        return np.maximum(radius - 1.0, -bite)
    return _polygon_distance(points, _POLYGONS[shape])


def render(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draw `scene` with a little random position, size, tilt and tone; [64, 64, 3] float32 in [0, 1].

    Raises ValueError when the scene names a shape, colour or style that the world does not have.
    """
    for value, known, kind in ((scene.shape, SHAPES, "shape"), (scene.colour, COLOURS, "colour"), (scene.style, STYLES, "style")):
        if value not in known:
            raise ValueError(f"the sandbox knows no {kind} {value!r}; it has {', '.join(known)}")
    radius = rng.uniform(20, 25)
    centre = PICTURE_SIZE / 2 + rng.uniform(-3.5, 3.5, size=2)
    tilt = math.radians(rng.uniform(-9, 9))
    grid = np.stack(np.meshgrid(np.arange(PICTURE_SIZE), np.arange(PICTURE_SIZE), indexing="xy"), axis=-1) + 0.5
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    points = ((grid.reshape(-1, 2) - centre) @ turn) / radius
    distance = (_distance(scene.shape, points) * radius).reshape(PICTURE_SIZE, PICTURE_SIZE)  # pixels
    fill = np.clip(0.5 - distance, 0, 1)
    along = points.reshape(PICTURE_SIZE, PICTURE_SIZE, 2) * radius  # pixels from the centre, turned with the shape
    if scene.style == "outline":
        ink = np.clip(2.2 - np.abs(distance + 1.7), 0, 1)
    elif scene.style == "dotted":
        cell = (along + 3.0) % 6.0 - 3.0
        ink = fill * np.clip(2.2 - np.sqrt((cell**2).sum(-1)) + 0.5, 0, 1)
    elif scene.style == "striped":
        diagonal = (along[..., 0] + along[..., 1]) / math.sqrt(2)
        ink = fill * np.clip(1.6 - np.abs((diagonal + 3.25) % 6.5 - 3.25) + 0.5, 0, 1)
    elif scene.style == "blurry":
        ink = 1 / (1 + np.exp(distance / 2.6))
    else:
        ink = fill
    paper = np.full(3, rng.uniform(0.94, 1.0))
    colour = np.clip(np.array(RGB[scene.colour]) + rng.uniform(-0.04, 0.04, size=3), 0, 1)
    picture = paper + ink[..., None] * (colour - paper)
    if scene.style == "negative":
        picture = 1.0 - picture
    return picture.astype(np.float32)
