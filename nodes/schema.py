"""What the schemas of all nodes share: socket types, the category, and what only newer versions of ComfyUI know."""

from __future__ import annotations

import dataclasses
from typing import Any

from comfy_api.latest import io

CATEGORY = "model/patch/CAD"

CadAttribution = io.Custom("CAD_ATTRIBUTION")
"""Carries a cad_engine.attribution.Attribution; a node that changes one returns another."""

CadEdit = io.Custom("CAD_EDIT")
"""Carries a cad_engine.edit.Edit; a node that changes one returns another."""


def advanced(item: io.Input) -> io.Input:
    """`item`, folded away until it is asked for. Set afterwards: widgets of 0.3.64 have neither an `advanced` argument nor `extra_dict`."""
    item.extra_dict = {**item.extra_dict, "advanced": True}
    return item


_NEWER = {"search_aliases", "essentials_category"} - {field.name for field in dataclasses.fields(io.Schema)}


def schema(**arguments: Any) -> io.Schema:
    """io.Schema in the pack's category; what this ComfyUI's Schema does not know yet is left out."""
    known = {name: value for name, value in arguments.items() if name not in _NEWER}
    return io.Schema(**{"category": CATEGORY, **known})
