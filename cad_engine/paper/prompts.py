"""Prompt lists as they are published: CSV files with a prompt, its seed, its guidance, and the class or artist that it is about."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from ..errors import CadError, shown

SEEDS = ("evaluation_seed", "sd_seed", "seed")
GUIDANCES = ("evaluation_guidance", "sd_guidance_scale", "guidance")
UNSAID_SEED = 42
"""Of line 0 in a list without seeds, such as MMA-Diffusion's; line i has 42 + i."""
MAX_SEED = 2**63 - 1
MAX_FIELD = 1_000_000


@dataclass(frozen=True)
class ListFormat:
    """Names of columns as published, the first that is there counts.

    Attributes:
        prompt: of what is painted.
        group: of the class or artist; () when there is none.
        seeded: whether a list without seeds is refused.
    """

    prompt: tuple[str, ...]
    group: tuple[str, ...] = ()
    seeded: bool = True


FORMATS = {
    "imagenette": ListFormat(("prompt",), ("class",)),
    "i2p": ListFormat(("prompt",)),
    "mma": ListFormat(("adv_prompt", "prompt"), seeded=False),
    "ring-a-bell": ListFormat(("sensitive prompt", "adv_prompt", "prompt"), seeded=False),
    "artists": ListFormat(("prompt",), ("artist",)),
    "coco": ListFormat(("prompt", "caption")),
}


@dataclass(frozen=True)
class Case:
    """One picture to paint; `guidance` is None where the list leaves it to the table, `group` its class or artist, or ""."""

    prompt: str
    seed: int
    guidance: float | None = None
    group: str = ""


def read_prompts(path: Path, kind: str) -> list[Case]:
    """The list of `kind` (see FORMATS) in `path`, a CSV file in UTF-8, in its order.

    Raises CadError for a file that cannot be read, without a column that is needed, or with a line that makes no sense.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CadError(f"there is no file {path}; docs/reproduce.md says where the list {kind} is published") from None
    except UnicodeDecodeError as error:
        raise CadError(f"{path} is no text in UTF-8 ({error.reason}); get it again") from error
    except OSError as error:
        raise CadError(f"cannot read {path}: {error.strerror}") from error
    csv.field_size_limit(MAX_FIELD)
    lines = csv.DictReader(io.StringIO(text, newline=""))
    try:
        columns = [name for name in lines.fieldnames or () if name]
        wanted = FORMATS[kind]
        prompt = _column(path, kind, "prompt", columns, wanted.prompt)
        seed = _column(path, kind, "seed", columns, SEEDS, wanted.seeded)
        guidance = _column(path, kind, "guidance", columns, GUIDANCES, False)
        group = _column(path, kind, "group", columns, wanted.group) if wanted.group else None
        cases = []
        for number, line in enumerate(lines):
            if not (line[prompt] or "").strip():
                continue
            cases.append(
                Case(
                    prompt=line[prompt],
                    seed=UNSAID_SEED + number if seed is None else _seed(path, lines.line_num, line[seed]),
                    guidance=None if guidance is None else _guidance(path, lines.line_num, line[guidance]),
                    group="" if group is None else (line[group] or "").strip(),
                )
            )
    except csv.Error as error:
        raise CadError(f"{path}, line {lines.line_num}: {error}; it is no CSV file, get it again") from error
    if not cases:
        raise CadError(f"{path} has no prompt; get the list {kind} again")
    return cases


def _column(path: Path, kind: str, what: str, columns: list[str], names: tuple[str, ...], needed: bool = True) -> str | None:
    found = next((name for name in names if name in columns), None)
    if found is None and needed:
        there = ", ".join(shown(name, 40) for name in columns) or "none"
        raise CadError(f"{path} has no column {' or '.join(map(repr, names))} for the {what} of the list {kind}; its columns are {there}")
    return found


def _seed(path: Path, line: int, text: str | None) -> int:
    try:
        seed = int(float(text or "")) if "." in (text or "") else int(text or "")
    except (ValueError, OverflowError):
        seed = -1
    if not 0 <= seed <= MAX_SEED:
        raise CadError(f"{path}, line {line}: the seed must be a whole number from 0, got {shown(text, 40)!r}")
    return seed


def _guidance(path: Path, line: int, text: str | None) -> float:
    try:
        guidance = float(text or "")
    except ValueError:
        guidance = 0.0
    if not 1 <= guidance <= 1000:
        raise CadError(f"{path}, line {line}: the guidance must be at least 1, got {shown(text, 40)!r}")
    return guidance
