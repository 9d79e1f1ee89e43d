"""Where a weight sits in the UNet, read from its checkpoint name: down, mid or up, which block, which part; in the order of computation.

Blocks are called "in 4", "mid 1" and "out 5" after the checkpoint's input_blocks.4, middle_block.1 and output_blocks.5, as tools
for block-wise merging and LoRA do. A name that is not understood is kept, comes last and is its own label.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal, get_args

from .text import shortened

Side = Literal["embed", "down", "mid", "up", "other"]
SIDES: tuple[Side, ...] = get_args(Side)
"""In the order of computation: embeddings of timestep and size, the way down, the middle, the way up; then unknown names."""

LABEL_LIMIT = 40

_BLOCKS: dict[str, tuple[Side, str]] = {"input_blocks": ("down", "in"), "middle_block": ("mid", "mid"), "output_blocks": ("up", "out")}
_PARTS = {  # in the order of computation
    "in_layers.2": "conv 1",
    "emb_layers.1": "time emb",
    "out_layers.3": "conv 2",
    "skip_connection": "skip",
    "op": "downsample",
    "proj_in": "proj in",
    "attn1.to_q": "self q",
    "attn1.to_k": "self k",
    "attn1.to_v": "self v",
    "attn1.to_out.0": "self out",
    "attn2.to_q": "cross q",
    "attn2.to_k": "cross k",
    "attn2.to_v": "cross v",
    "attn2.to_out.0": "cross out",
    "ff.net.0.proj": "ff in",
    "ff.net.2": "ff out",
    "proj_out": "proj out",
    "conv": "upsample",
}
_RANKS = {part: rank for rank, part in enumerate(_PARTS)}
_OUTSIDE: dict[str, tuple[Side, None, str, str]] = {  # in the order of computation
    "time_embed.0": ("embed", None, "embed", "time in"),
    "time_embed.2": ("embed", None, "embed", "time out"),
    "label_emb.0.0": ("embed", None, "embed", "label in"),
    "label_emb.0.2": ("embed", None, "embed", "label out"),
    "out.2": ("up", None, "out", "last conv"),
}
_AFTER_ALL = 10_000
_NUMBER = "([0-9]{1,4})"
_IN_BLOCK = re.compile(rf"(input_blocks|output_blocks)\.{_NUMBER}\.{_NUMBER}\.(.+)")
_IN_MIDDLE = re.compile(rf"(middle_block)\.{_NUMBER}\.(.+)")
_IN_TRANSFORMER = re.compile(rf"transformer_blocks\.{_NUMBER}\.(.+)")


@dataclass(frozen=True, order=True)
class Place:
    """A weight's place in the UNet; places sort in the order of computation.

    Attributes:
        side: one of SIDES.
        block: number of the input, middle or output block; None outside of the numbered blocks.
        group: label of the block, "in 4".
        part: label within the block, "block 0 · ff out".
    """

    order: tuple[object, ...] = field(repr=False)
    side: Side = field(compare=False)
    block: int | None = field(compare=False)
    group: str = field(compare=False)
    part: str = field(compare=False)

    @property
    def label(self) -> str:
        """A short name for people: "in 4 · block 0 · ff out"."""
        return f"{self.group} · {self.part}" if self.group else self.part


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """A sorting key in which numbers count as numbers, of whatever length: "a.9" before "a.10"."""
    pieces = re.findall(r"[0-9]+|[^0-9]+", name)
    digits = [piece.lstrip("0") if piece[0] in "0123456789" else None for piece in pieces]
    # A number sorts by its length, then its digits; int() refuses numbers of thousands of digits.
    return tuple((1, 0, piece) if digit is None else (0, len(digit), digit) for piece, digit in zip(pieces, digits, strict=True))


def _place(name: str, side: Side, block: int | None, group: str, part: str, *within: int) -> Place:
    order = (SIDES.index(side), _AFTER_ALL if block is None else block, within, natural_key(name))
    return Place(order, side, block, group, part)


def locate(name: str) -> Place:
    """The place of the weight called `name`, with or without "model.", "diffusion_model." and ".weight"."""
    path = name.removeprefix("model.").removeprefix("diffusion_model.").removesuffix(".weight")
    if path in _OUTSIDE:
        return _place(name, *_OUTSIDE[path], list(_OUTSIDE).index(path))
    if match := _IN_BLOCK.fullmatch(path):
        blocks, block, module, rest = match[1], int(match[2]), int(match[3]), match[4]
    elif match := _IN_MIDDLE.fullmatch(path):
        blocks, block, module, rest = match[1], int(match[2]), 0, match[3]
    else:
        return _place(name, "other", None, "", shortened(path, LABEL_LIMIT))
    side, prefix = _BLOCKS[blocks]
    depth, prefixed = (_AFTER_ALL if rest == "proj_out" else -1), ""
    if transformer := _IN_TRANSFORMER.fullmatch(rest):
        depth, rest = int(transformer[1]), transformer[2]
        prefixed = f"block {depth} · "
    part = _PARTS.get(rest) or shortened(rest, LABEL_LIMIT)
    return _place(name, side, block, f"{prefix} {block}", prefixed + part, module, depth, _RANKS.get(rest, _AFTER_ALL))


def u_order(names: Iterable[str]) -> list[str]:
    """`names` in the UNet's order of computation; unknown ones last, in natural order."""
    return sorted(names, key=locate)


def layer_label(name: str) -> str:
    """A short name of a weight for people: "in 4 · block 0 · ff out"."""
    return locate(name).label


_LEVELS = {"sd1": (4, 3), "sd2": (4, 3), "sdxl": (3, 3), "sandbox": (2, 2)}
"""Of each family: levels of resolution, and how many numbered blocks each has on the way down and as many on the way up."""
_LATENT = {"sd1": 64, "sdxl": 128, "sandbox": 8}
"""Sides of the latent that is painted when nothing else is asked for; Stable Diffusion 2 has two."""


@dataclass(frozen=True)
class Shape:
    """The shape of a UNet: how many `levels` of resolution, and how many numbered blocks `per_level` on each of its two ways.

    `sizes` are those of the latent at each level, "64 \u00d7 64", or parts of the first one's, "1/2", where it is not known.
    """

    levels: int
    per_level: int
    sizes: tuple[str, ...]


def unet_shape(family: object, size: object = None) -> Shape | None:
    """The shape of a UNet of `family` that works on latents of `size` (height, width), None for its own; None for a family unknown here."""
    if not isinstance(family, str) or family not in _LEVELS:
        return None
    levels, per_level = _LEVELS[family]
    if isinstance(size, (list, tuple)) and len(size) == 2 and all(type(side) is int and 0 < side <= 10**6 for side in size):
        height, width = size
    elif family in _LATENT:
        height = width = _LATENT[family]
    else:
        return Shape(levels, per_level, ("1", *(f"1/{2**level}" for level in range(1, levels))))
    return Shape(levels, per_level, tuple(f"{-(-height // 2**level)} \u00d7 {-(-width // 2**level)}" for level in range(levels)))
