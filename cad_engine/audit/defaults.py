"""What an audit takes when nobody says what: the words of the edit itself, and a ratio that does something on the model."""

from __future__ import annotations

from ..edit import Edit, single
from .settings import AuditSettings

SANDBOX_RATIO = 0.02
"""Of CAD-Amplify on the sandbox, whose rows are too short for the paper's ratio to do anything (as cad demo has it)."""


def said(edit: Edit, name: str) -> str:
    """What the first part of `edit` that says so was made for: its "concept" or "base"; "" when none does."""
    return next((str(part.info[name]).strip() for part in single(edit) if part.info.get(name)), "")


def amplify_ratio(family: str) -> float:
    """Of CAD-Amplify on a model of `family`."""
    return SANDBOX_RATIO if family == "sandbox" else AuditSettings.ratio
