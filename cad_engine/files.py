"""Safetensors files with validated JSON metadata: the envelope that attributions and edits share.

A file is read in this order, and nothing is handed out before all of it is checked: size and header length, format version and
kind, metadata, then every tensor's dtype, shape and values. A file is written beside its destination and moved there whole.
"""

from __future__ import annotations

import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from .errors import CadError, first_line, shown

FORMAT_VERSION = 1
METADATA_KEY = "cad"
MAX_HEADER_BYTES = 4_000_000  # SDXL's 700 layers with eight tensors each take under 1 MB


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside `path`, moved to `path` when the block ends well and removed when it does not.

    Raises CadError naming `path` when its folder does not exist or cannot be written.
    """
    path = Path(path)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:80]}.", suffix=".part")
    except OSError as error:
        raise CadError(f"cannot write {path}: {error.strerror}; choose another place for the output") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp's files are private; this one is the user's
        os.replace(temporary, path)
    except (OSError, SafetensorError) as error:
        raise CadError(f"cannot write {path}: {getattr(error, 'strerror', None) or first_line(error)}; choose another place") from error
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Raise CadError unless a file can be made beside `path`."""
    with written_whole(path.with_name(f".{path.name[:80]}.try")) as temporary:
        temporary.touch()
    path.with_name(f".{path.name[:80]}.try").unlink()


def write(path: Path, kind: str, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write a file of `kind`; `info` is kept as JSON. Raises CadError when the place cannot be written."""
    metadata = json.dumps({"format_version": FORMAT_VERSION, "kind": kind, **info}, ensure_ascii=False, allow_nan=False)
    with written_whole(path) as temporary:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata={METADATA_KEY: metadata})


def check_header(path: Path) -> None:
    """Raise CadError unless `path` is a file that begins like a safetensors file with a header of a sane length."""
    path = Path(path)
    if path.is_dir():
        raise CadError(f"{path} is a folder, expected a .safetensors file")
    try:
        with path.open("rb") as file:
            start = file.read(9)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        raise CadError(f"there is no file {path}") from None
    except OSError as error:
        raise CadError(f"cannot read {path}: {error.strerror}") from error
    if len(start) < 9 or start[8:] != b"{":
        raise CadError(f"{path} is not a safetensors file; it may be damaged or of another format")
    (length,) = struct.unpack("<Q", start[:8])
    if length > size - 8:
        raise CadError(f"{path} is truncated: its header alone takes {length} bytes and the file has {size}; get it again")


def read(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and info of a file of `kind`, on the CPU.

    Raises CadError for a missing, truncated or foreign file, another kind, another format version or oversized metadata.
    """
    path = Path(path)
    check_header(path)
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
    if length > MAX_HEADER_BYTES:
        raise CadError(f"{path} has a header of {length} bytes, expected at most {MAX_HEADER_BYTES}: not a CAD {kind} file")
    try:
        with safe_open(str(path), framework="pt") as opened:
            metadata = opened.metadata() or {}
            info = _parse(path, kind, metadata.get(METADATA_KEY))
            # Copies: a tensor that stays mapped to the file could change after it was checked, and locks the file on Windows.
            tensors = {name: opened.get_tensor(name).clone() for name in opened.keys()}  # noqa: SIM118 (not a dict)
    except CadError:
        raise
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise CadError(f"{path} is damaged or not a safetensors file ({first_line(error)}); get it again") from error
    return tensors, info


def read_info(path: Path) -> dict[str, Any]:
    """The metadata of a CAD file of whatever kind, with its "kind"; nothing else is read."""
    check_header(path)
    try:
        with safe_open(str(path), framework="pt") as opened:
            metadata = opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise CadError(f"{path} is damaged or not a safetensors file ({first_line(error)}); get it again") from error
    return _parse(path, None, metadata.get(METADATA_KEY))


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number")


def _parse(path: Path, kind: str | None, text: str | None) -> dict[str, Any]:
    if text is None:
        expected = f"a CAD {kind} file" if kind else "a CAD file"
        raise CadError(f"{path} is a safetensors file but not {expected}: it has no {METADATA_KEY!r} metadata")
    if len(text) > MAX_HEADER_BYTES:
        raise CadError(f"{path} has {len(text)} characters of metadata, expected at most {MAX_HEADER_BYTES}: not a CAD file")
    try:
        info = json.loads(text, parse_constant=_no_constant)
        json.dumps(info, ensure_ascii=False).encode("utf-8")  # refuses lone surrogates
    except (ValueError, RecursionError) as error:
        raise CadError(f"{path} has damaged metadata ({first_line(error)}); get it again") from error
    if not isinstance(info, dict):
        raise CadError(f"{path} has damaged metadata: expected an object, got {type(info).__name__}")
    version = info.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise CadError(f"{path} has format version {shown(version, 20)}, this version reads {FORMAT_VERSION}; update CAD or make it again")
    if kind is not None and info.get("kind") != kind:
        raise CadError(f"{path} is a CAD {shown(info.get('kind'), 20)!r} file, expected a CAD {kind} file")
    if kind is not None:
        info.pop("kind")
    return info


def check_tensor(path: Path, name: str, tensor: Tensor | None, dtype: torch.dtype, shape: tuple[int | None, ...]) -> Tensor:
    """`tensor` if it has `dtype` and `shape` (None: any length) and is finite; else CadError naming the file and both sides."""
    if tensor is None:
        raise CadError(f"{path} is incomplete: it has no tensor {shown(name)}")
    if tensor.dtype != dtype:
        raise CadError(f"{path}: {shown(name)} is {tensor.dtype}, expected {dtype}; the file is damaged or was made by something else")
    fits = tensor.ndim == len(shape) and all(want is None or have == want for have, want in zip(tensor.shape, shape, strict=False))
    if not fits:
        want = ["any" if length is None else length for length in shape]
        raise CadError(f"{path}: {shown(name)} has shape {list(tensor.shape)}, expected {want}; the file is damaged")
    if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
        raise CadError(f"{path}: {shown(name)} has values that are not finite (NaN or infinity); the file is damaged")
    return tensor
