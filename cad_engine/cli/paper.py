"""cad paper: the paper's tables, measured with any model."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from .common import Device, DType, Height, Json, Prediction, Width, latent_size, load, progress_bar, show

QUICK_CONCEPTS, QUICK_PICTURES = 2, 2


def paper(
    table: Annotated[list[str], typer.Option(help="Which table, 1 to 6, or all; may be given several times.")],
    model: Annotated[
        str, typer.Option(help="A .safetensors checkpoint, a diffusers folder, or 'sandbox', whose world stands in for all data.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for edits, numbers and results (made if missing); the same one goes on.")],
    prompts: Annotated[
        list[str], typer.Option(help="A published list, NAME=FILE: imagenette, i2p, mma, ring-a-bell, artists, coco (docs/reproduce.md).")
    ] = [],  # noqa: B006
    classifier: Annotated[Path | None, typer.Option(help="Tables 1 and 5: folder of a ResNet-50 as timm or transformers saves it.")] = None,
    clip: Annotated[Path | None, typer.Option(help="Table 4: folder of a CLIP model as transformers saves it.")] = None,
    lpips: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="ALEXNET LINEAR", help="Table 3: weights of AlexNet, and LPIPS' linear ones.")
    ] = None,
    method: Annotated[str, typer.Option(help="How to erase: paper (its rule), or rounds.")] = "paper",
    ratio: Annotated[float | None, typer.Option(help="Part of the weights to take, for the method paper; default: the paper's.")] = None,
    concepts: Annotated[int | None, typer.Option(help="At most so many classes or artists are edited.")] = None,
    pictures: Annotated[int | None, typer.Option(help="At most so many pictures of each class, artist and list.")] = None,
    quick: Annotated[bool, typer.Option(help="--concepts 2 --pictures 2: whether it all works, no figures to quote.")] = False,
    keep_pictures: Annotated[bool, typer.Option(help="Keep every picture as PNG. Table 6 keeps none.")] = False,
    batch: Annotated[int, typer.Option(help="Pictures painted together; a run keeps to its own number.")] = 4,
    width: Width = None,
    height: Height = None,
    device: Device = "cpu",
    dtype: DType = "float32",
    prediction: Prediction = "auto",
    json: Json = False,
) -> None:
    """Measure the paper's tables: results.json and results.md in OUT, of all tables there, beside the paper's numbers.

    The same command goes on where it was interrupted. Under torchrun, processes share edits and pictures. Nothing is downloaded.
    """
    from .. import __version__
    from ..errors import CadError
    from ..fingerprint import fingerprint
    from ..paper.checkpoint_tables import CheckpointTables
    from ..paper.given import Given
    from ..paper.plan import TABLES, Method
    from ..paper.results import markdown, table_result, write_all, write_table
    from ..paper.rows import table_rows
    from ..paper.run import run_table
    from ..paper.sandbox_tables import SandboxTables
    from ..processes import joined

    numbers = _numbers(table, TABLES)
    given = Given(_lists(prompts), classifier, clip, lpips)
    if method not in get_args(Method):
        raise CadError(f"--method must be paper or rounds, got {method!r}")
    if method == "rounds" and ratio is not None:
        raise CadError("--ratio is for the method paper; rounds find by themselves how much to take")
    if ratio is not None and not 0 < ratio <= 1:
        raise CadError(f"--ratio must be in (0, 1], got {ratio:g}")
    if quick:
        concepts, pictures = concepts or QUICK_CONCEPTS, pictures or QUICK_PICTURES
    for name, value in (("--concepts", concepts), ("--pictures", pictures), ("--batch", batch)):
        if value is not None and value < 1:
            raise CadError(f"{name} must be at least 1, got {value}")
    if keep_pictures and 6 in numbers:
        raise CadError("table 6 is an audit, whose pictures are counted and not kept; leave --keep-pictures out, or the table")
    on_sandbox = model == "sandbox"
    if on_sandbox and (given != Given() or width or height):
        raise CadError("the sandbox has its own lists, judges and size; leave --prompts, --classifier, --clip, --lpips and sizes out")
    processes = joined()
    place = processes.device(device)
    if not on_sandbox:  # what is missing is said before the model is loaded
        for number in numbers:
            given.check(number)
    denoiser = load(model, place, dtype, prediction, [])
    described = {
        "name": Path(model).name,
        "fingerprint": fingerprint(denoiser),
        "dtype": dtype,
        "prediction": denoiser.prediction,
        "version": __version__,
    }
    tables: SandboxTables | CheckpointTables
    if on_sandbox:
        tables = SandboxTables(denoiser, cast(Method, method), concepts, pictures, ratio)
    else:
        size = latent_size(denoiser, height, width)
        tables = CheckpointTables(
            denoiser,
            given,
            cast(Method, method),
            concepts,
            pictures,
            ratio,
            batch=batch,
            size=size,
            device=place,
        )
    results = []
    try:
        with progress_bar(shown=processes.first) as progress:
            planned = [tables.table(number) for number in numbers]
            for one in planned:
                values = run_table(one, denoiser, described, out, processes, batch=batch, keep_pictures=keep_pictures, progress=progress)
                if values is not None:
                    result = table_result(one, table_rows(one, values), described)
                    write_table(out / f"table-{one.number}", result)
                    results.append(result)
    except KeyboardInterrupt:
        if processes.first:
            print(f"cad: what is finished is kept in {out}; the same command goes on from there", file=sys.stderr)
        raise
    if not processes.first:
        return
    write_all(out)
    text = "\n".join(markdown(result) for result in results)
    show({"folder": str(out), "tables": results}, json, f"{text}\nwrote {out / 'results.json'} and {out / 'results.md'}")


def _numbers(texts: list[str], known: tuple[int, ...]) -> list[int]:
    from ..errors import CadError

    found: set[int] = set()
    for text in texts:
        if text == "all":
            found |= set(known)
        elif text.isdecimal() and int(text) in known:
            found.add(int(text))
        else:
            raise CadError(f"--table must be one of {', '.join(map(str, known))}, or all, got {text!r}")
    return sorted(found)


def _lists(texts: list[str]) -> dict[str, Path]:
    from ..errors import CadError
    from ..paper.prompts import FORMATS

    found: dict[str, Path] = {}
    for text in texts:
        name, sign, path = text.partition("=")
        if not sign or not path or name not in FORMATS:
            raise CadError(f"--prompts must be NAME=FILE with a name of {', '.join(FORMATS)}, got {text!r}")
        if name in found:
            raise CadError(f"--prompts {name} is given twice; give each list once")
        found[name] = Path(path)
    return found
