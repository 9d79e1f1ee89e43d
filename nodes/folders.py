"""Where attributions and edits are kept: two model folders of ComfyUI, and what files in them may be called."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import folder_paths

from ..cad_engine.errors import CadError, shown

ATTRIBUTIONS, EDITS = "cad_attributions", "cad_edits"
SUFFIX = ".safetensors"
MAX_CHARACTERS, MAX_BYTES = 120, 200
"""File systems take 255 bytes, and the name of an unfinished file is a little longer than that of the finished one."""

_SIGNS = " -_.()+"
_WINDOWS = {"con", "prn", "aux", "nul", *(f"{port}{number}" for port in ("com", "lpt") for number in "0123456789¹²³")}


def register() -> None:
    """Make both folders known to ComfyUI, behind those that the user's extra_model_paths.yaml names for them."""
    for folder in (ATTRIBUTIONS, EDITS):
        folder_paths.add_model_folder_path(folder, str(Path(folder_paths.models_dir) / folder))
        folder_paths.folder_names_and_paths[folder][1].add(SUFFIX)
        with suppress(OSError):  # matters only when something is saved, and is told then
            _place(folder).mkdir(parents=True, exist_ok=True)


def _place(folder: str) -> Path:
    """Where new files go: the user's first choice."""
    return Path(folder_paths.get_folder_paths(folder)[0])


def shown_path(path: Path) -> str:
    """`path` for people: from ComfyUI's own folder on, where it is inside of it."""
    base = Path(folder_paths.base_path)
    return (path.relative_to(base) if path.is_relative_to(base) else path).as_posix()


def safe_name(name: object) -> str:
    """`name` as a plain file name that every system takes, without its ".safetensors". Raises CadError, which says what is allowed."""
    stem = unicodedata.normalize("NFC", name).removesuffix(SUFFIX) if isinstance(name, str) else ""
    reason = _objection(stem)
    if reason:
        raise CadError(f"{shown(name, 60)!r} cannot be the name of a file: {reason}; use letters, digits, spaces and - _ . ( ) +")
    return stem


def _objection(stem: str) -> str | None:
    """What is wrong with a file called `stem`; None when nothing is."""
    if not stem.strip():
        return "it is empty"
    if any(sign in stem for sign in "/\\:"):
        return "it must not lead to another folder"
    strange = [sign for sign in stem if sign not in _SIGNS and unicodedata.category(sign)[0] not in "LMN"]
    if strange:
        return f"{shown(strange[0])!r} is not allowed"
    if stem[0] in ". " or stem[-1] in ". ":
        return "it must not begin or end with a dot or a space"
    if stem.partition(".")[0].rstrip().casefold() in _WINDOWS:
        return "Windows keeps it for itself"
    if len(stem) > MAX_CHARACTERS or len(stem.encode()) > MAX_BYTES:
        return f"it has more than {MAX_CHARACTERS} characters or {MAX_BYTES} bytes"
    return None


@contextmanager
def destination(folder: str, name: str, *, overwrite: bool) -> Iterator[Path]:
    """The path to write `name` to inside the block; without `overwrite` one that no file has, numbered where `name` is taken.

    Raises CadError for an unsafe name and for a place that cannot be written. Nothing is left behind when the block fails.
    """
    stem, place = safe_name(name), _place(folder)
    try:
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"{stem}{SUFFIX}" if overwrite else _reserved(place, stem)
    except OSError as error:
        raise CadError(f"cannot write {shown(name)!r} to {shown_path(place)}: {error.strerror}; make room, or allow it") from error
    try:
        yield path
    except BaseException:
        if not overwrite:
            path.unlink(missing_ok=True)
        raise


def _reserved(place: Path, stem: str) -> Path:
    """An empty file that was not there before, so that nobody else, and no second run, takes the same name."""
    path, number = place / f"{stem}{SUFFIX}", 1
    while True:
        try:
            path.touch(exist_ok=False)
        except FileExistsError:
            number += 1
            path = place / f"{stem}-{number}{SUFFIX}"
        else:
            return path


def options(folder: str) -> list[str]:
    """What a drop-down of the files in `folder` offers; where there are none, a line that says where to put them."""
    return folder_paths.get_filename_list(folder) or [f"(no files in {shown_path(_place(folder))})"]


def existing(folder: str, name: object) -> Path:
    """The file that `options` lists as `name`. Raises CadError when there is none, whatever `name` may be."""
    files, place = folder_paths.get_filename_list(folder), shown_path(_place(folder))
    if not files:
        raise CadError(f"there are no files in {place} yet; save one there with its Save node, or put one there, and refresh")
    path = folder_paths.get_full_path(folder, name) if isinstance(name, str) and name in files else None
    if path is None:
        raise CadError(f"there is no file {shown(name, 100)!r} in {place}; choose another one, or put it there and refresh")
    return Path(path)


def refusal(folder: str, name: object) -> str | None:
    """Why `existing` cannot give `name`; None when it can, and for None, which is a name that another node has yet to give."""
    if name is not None:
        try:
            existing(folder, name)
        except CadError as error:
            return str(error)
    return None


def state(folder: str, name: object) -> str:
    """Changes whenever the file called `name` does; ComfyUI reads it again then."""
    with suppress(CadError, OSError):
        stat = existing(folder, name).stat()
        return f"{stat.st_mtime_ns} {stat.st_size}"
    return "missing"


register()
