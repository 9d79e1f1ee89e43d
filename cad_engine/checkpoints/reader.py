"""A safetensors file, opened but not read: names and shapes at once, tensors one by one, every problem told in one line."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CadError, first_line

Shape = tuple[int, ...]

_PICKLES = {".ckpt", ".pt", ".pth", ".bin", ".pkl"}


class CheckpointFile:
    """The tensors of one .safetensors file.

    Attributes:
        path: where it is.
        metadata: its strings by name.
        shapes: the shape of every tensor by name.
    """

    def __init__(self, path: str | Path) -> None:
        """Open `path`; CadError when it is missing, a pickle, or no complete safetensors file."""
        self.path = Path(path)
        if not self.path.is_file():
            raise CadError(f"{self.path}: there is no such file; check the path")
        if self.path.suffix.lower() in _PICKLES:
            raise CadError(f"{self.path}: pickle files can run code when opened and are not read; convert it to .safetensors first")
        try:
            self._file = safe_open(self.path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CadError(
                f"{self.path}: not a complete safetensors file ({first_line(error)}); download it again or convert it to .safetensors"
            ) from error
        self.metadata: dict[str, str] = dict(self._file.metadata() or {})
        slices = {name: self._file.get_slice(name) for name in self._file.keys()}  # noqa: SIM118 - a safe_open is no mapping
        self.shapes: dict[str, Shape] = {name: tuple(piece.get_shape()) for name, piece in slices.items()}
        self._dtypes = {name: str(piece.get_dtype()) for name, piece in slices.items()}

    def tensor(self, name: str, shape: Shape) -> Tensor:
        """The tensor `name` as `shape`, in the file's dtype; trailing sizes of 1 do not count (1x1 convolutions as matrices).

        Raises CadError when it is missing, of another shape, or not of floating point.
        """
        if name not in self.shapes:
            raise CadError(f"{self.path}: the weight {name} {list(shape)} is missing; the file is incomplete, get it again")
        if _significant(self.shapes[name]) != _significant(shape):
            raise CadError(
                f"{self.path}: the weight {name} has shape {list(self.shapes[name])} where {list(shape)} is needed; "
                "the file is damaged or of a model that is not supported"
            )
        if not self._dtypes[name].startswith(("F", "BF")):
            raise CadError(f"{self.path}: the weight {name} is quantised ({self._dtypes[name]}); use an fp32, fp16, bf16 or fp8 file")
        tensor: Tensor = self._file.get_tensor(name)
        return tensor.reshape(shape)


def _significant(shape: Shape) -> Shape:
    """`shape` without trailing ones."""
    count = len(shape)
    while count > 1 and shape[count - 1] == 1:
        count -= 1
    return shape[:count]
