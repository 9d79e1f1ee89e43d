"""What the commands share: options, progress on the terminal, results for machines."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import CadError, first_line
from ..files import check_writable

if TYPE_CHECKING:
    from rich.progress import ProgressColumn

    from ..checkpoints.denoiser import DiffusersDenoiser
    from ..progress import Progress

Model = Annotated[
    str, typer.Argument(metavar="MODEL", help="A .safetensors checkpoint (SD 1.x, 2.x, XL), a diffusers folder, or 'sandbox'.")
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout and nothing else.")]
Device = Annotated[str, typer.Option(help="Where to compute: cpu, cuda, cuda:1, mps.")]
DType = Annotated[str, typer.Option(help="Precision of the UNet: float32, float16 or bfloat16.")]
Prediction = Annotated[str, typer.Option(help="What the UNet predicts when it is not found out by itself: auto, epsilon, v_prediction.")]
Lora = Annotated[list[str], typer.Option(help="A LoRA on top of the model, FILE or FILE:SCALE; may be given several times.")]
Width = Annotated[int | None, typer.Option(help="Width in pixels; default: the model's.")]
Height = Annotated[int | None, typer.Option(help="Height in pixels; default: the model's.")]
Seed = Annotated[int, typer.Option(help="Seed of the sampling.")]


def load(model: str, device: str, dtype: str, prediction: str, lora: list[str]) -> DiffusersDenoiser:
    """The model named on the command line."""
    import torch

    from ..checkpoints.load import load_model

    dtypes = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
    if dtype not in dtypes:
        raise CadError(f"--dtype must be one of {', '.join(dtypes)}, got {dtype!r}")
    if prediction not in ("auto", "epsilon", "v_prediction"):
        raise CadError(f"--prediction must be auto, epsilon or v_prediction, got {prediction!r}")
    try:
        place = torch.device(device)
        torch.empty(0, device=place)
    except (RuntimeError, AssertionError) as error:
        raise CadError(f"--device {device!r} cannot be used here ({first_line(error)}); try cpu") from error
    return load_model(model, device=place, dtype=dtypes[dtype], prediction=prediction, loras=[file_and_number(text) for text in lora])  # type: ignore[arg-type]


def file_and_number(text: str) -> tuple[Path, float]:
    """FILE or FILE:NUMBER, the number 1 when there is none; a colon that is part of a Windows drive stays in the name."""
    head, _, tail = text.rpartition(":")
    try:
        number = float(tail)
    except ValueError:
        return Path(text), 1.0
    if not head:
        return Path(text), 1.0
    if not 0 <= number <= 10:  # also refuses NaN
        raise CadError(f"the number after {head} must be between 0 and 10, got {tail}")
    return Path(head), number


def latent_size(denoiser: DiffusersDenoiser, height: int | None, width: int | None) -> tuple[int, int]:
    """(height, width) of the latents of pictures of `height` x `width` pixels, the model's own where they are None.

    Raises CadError for a side that is no multiple of eight latents, which is what the UNet's own scaling needs.
    """
    unit = 8 * denoiser.vae_scale
    sides = []
    for name, pixels, own in (("height", height, denoiser.latent_shape[1]), ("width", width, denoiser.latent_shape[2])):
        if pixels is not None and (pixels < unit or pixels % unit):
            raise CadError(f"--{name} must be a multiple of {unit}, got {pixels}")
        sides.append(own if pixels is None else pixels // denoiser.vae_scale)
    return sides[0], sides[1]


def check_output(path: Path, *inputs: str | Path | None) -> None:
    """Refuse `path`, before any long work, when it cannot be written or is one of the `inputs` (or another output)."""
    for other in inputs:
        if other is not None and (path == Path(other) or (path.exists() and Path(other).exists() and path.samefile(other))):
            raise CadError(f"cannot write {path}: it is also named as another file of this command; give another name")
    if path.is_dir():
        raise CadError(f"cannot write {path}: it is a folder; give a file name")
    if not path.parent.is_dir():
        raise CadError(f"cannot write {path}: there is no folder {path.parent}; make it first")
    check_writable(path)


def bar_columns() -> tuple[ProgressColumn, ...]:
    """What is shown of each stage of long work: its name as it is, a bar, the count, and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn

    return TextColumn("{task.description:<12}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()


@contextmanager
def progress_bar(shown: bool = True) -> Iterator[Progress]:
    """A Progress that draws bars on stderr, so that stdout stays for results; nothing unless they are to be `shown`."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    with Bars(*bar_columns(), console=Console(stderr=True), disable=not shown) as bars:
        tasks: dict[str, Any] = {}

        def report(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total)
            bars.update(tasks[stage], completed=done, total=total)

        yield report


def warn(text: str) -> None:
    """A line on stderr about something that works but may not be meant."""
    print(f"cad: warning: {text}", file=sys.stderr)


def show(result: dict[str, Any], as_json: bool, text: str) -> None:
    """Print `result` as JSON, or the `text` made of it."""
    if as_json:
        json.dump(result, sys.stdout, indent=2, allow_nan=False)
        sys.stdout.write("\n")
    else:
        print(text)
