"""A text file that lists concepts to attribute, and what the file of each is called."""

from __future__ import annotations

import hashlib
import unicodedata
from dataclasses import dataclass
from pathlib import Path

from .errors import CadError, shown

SUFFIX = ".safetensors"
LONGEST = 60
"""Characters of a name before its suffix: at three bytes each there is room for what writing adds to it (see files.written_whole)."""
DEVICES = frozenset({"con", "prn", "aux", "nul"} | {f"{kind}{number}" for kind in ("com", "lpt") for number in range(10)})
"""Names that are devices on Windows, whatever comes after them."""


@dataclass(frozen=True)
class Listed:
    """A concept of a list: the number of its line, counted from 1, its words and its base prompt."""

    line: int
    concept: str
    base: str

    @property
    def file_name(self) -> str:
        return file_name(self.concept)


def read_list(path: Path, base: str) -> list[Listed]:
    """The concepts of the list at `path`, in its order.

    A line is a concept, or a concept, "|" and its base prompt, which is `base` where the line does not say. Empty lines, and lines that
    begin with "#", say nothing; blanks count as one space. Raises CadError, with the line's number, for a file that cannot be read, has no
    concept, or has two whose files would have the same name.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise CadError(f"there is no file {path}; make it: one concept a line") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise CadError(f"cannot read {path}: {reason}; it should be a text file, one concept a line") from error
    concepts: list[Listed] = []
    names: dict[str, Listed] = {}
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        concept, *bases = (" ".join(part.split()) for part in line.split("|"))
        if not concept or len(bases) > 1:
            what = "has more than one |" if concept else "has no concept"
            raise CadError(f"{path}, line {number} {what}: {shown(line.strip())!r}; write CONCEPT, or CONCEPT | BASE PROMPT")
        listed = Listed(number, concept, bases[0] if bases else base)
        other = names.setdefault(listed.file_name.casefold(), listed)
        if other is not listed:
            raise CadError(
                f"{path}, lines {other.line} and {number}: {shown(other.concept)!r} and {shown(concept)!r} would both be written to "
                f"{listed.file_name}; take one out, or put it in a list with a folder of its own"
            )
        concepts.append(listed)
    if not concepts:
        raise CadError(f"{path} has no concept; write one a line")
    return concepts


def file_name(concept: str) -> str:
    """A name for the concept's file that every system takes: letters, digits and hyphens of its words, joined by "_".

    A name that is too long is cut, and like one that has nothing left it ends in digits of the concept's hash.
    """
    kept = (c if c == "-" or unicodedata.category(c)[0] in "LMN" else " " for c in unicodedata.normalize("NFC", concept))
    name = "_".join("".join(kept).split()).strip("-_")
    if not name or len(name) > LONGEST or len(name.encode()) > 3 * LONGEST:
        digits = hashlib.sha256(concept.encode()).hexdigest()[:8]
        while len(name) > LONGEST - 9 or len(name.encode()) > 3 * LONGEST - 9:
            name = name[:-1]
        name = f"{name}_{digits}".lstrip("_")
    return f"{name}_{SUFFIX}" if name.casefold() in DEVICES else f"{name}{SUFFIX}"
