"""Two concepts of the sandbox erased together, and one of them taken out again: `python -m benchmarks.several`.

The second is made with the first in place and spares it (cad_engine/several.py); beside it the same without that, both made from the
unedited model and multiplied. Edits are kept in the work folder, from which an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.edit import Edit, applied, combine, without
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.erasure import edit_from_attribution
from cad_engine.sandbox.captions import KINDS, kind_of
from cad_engine.sandbox.evaluation import Case, paint
from cad_engine.sandbox.judge import Judge
from cad_engine.several import attribute_after

from .erasing.cases import concept_cases, rest_cases
from .erasing.methods import cad_settings
from .erasing.task import task

PAIRS = (("star", "dotted"), ("star", "square"))
WORK_FOLDER = Path("artifacts/several")


def edit_of(denoiser: DiffusersDenoiser, folder: Path, concept: str, seed: int, after: str = "") -> Edit:
    """The edit that erases `concept`, made with that of `after` in place, from the work folder or made now."""
    path = folder / f"{concept}{'-after-' if after else ''}{after}-{seed}.safetensors"
    if not path.exists():
        settings = cad_settings(denoiser, task(concept, seed))
        if after:
            attribution = attribute_after(denoiser, settings, edit_of(denoiser, folder, after, seed))
        else:
            attribution = attribute_concept(denoiser, settings)
        save_edit(path, edit_from_attribution(attribution, None))
    return load_edit(path)


def other_cases(first: str, second: str, count: int, seed: int) -> list[Case]:
    """`count` scenes of words named to the method for `first`, and as many of unnamed ones, without `second`."""
    found = []
    for named in (True, False):
        cases = rest_cases(first, named, 4 * count, seed)
        found += [case for case in cases if getattr(case.scene, kind_of(second)) != second][:count]
    return found


def row(
    denoiser: DiffusersDenoiser, judge: Judge, first: str, second: str, edit: Edit, pictures: int, seed: int
) -> tuple[list[int], torch.Tensor]:
    """With `edit`: how many pictures of each concept show it, how many others are all right; and all pictures."""
    weights = {name: layer.weight for name, layer in denoiser.layers.items()}
    parts = [concept_cases(first, pictures, seed), concept_cases(second, pictures, seed), other_cases(first, second, pictures, seed)]
    with applied(edit, weights):
        painted = paint(denoiser, judge, [case for part in parts for case in part])
    verdicts = painted.verdicts
    shows = [sum(v.shows(concept) for v in verdicts[i * pictures : (i + 1) * pictures]) for i, concept in enumerate((first, second))]
    return [*shows, sum(painted.right()[2 * pictures :])], painted.pictures


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print a Markdown table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.several", description=__doc__)
    words = [word for kind in KINDS.values() for word in kind]
    parser.add_argument(
        "--pair", nargs=2, action="append", choices=words, metavar="WORD", help="may be repeated; default star dotted, star square"
    )
    parser.add_argument("--pictures", type=int, default=24, help="of each concept, and half of the others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work", type=Path, default=WORK_FOLDER)
    options = parser.parse_args(arguments)
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    denoiser, judge = load_model("sandbox"), Judge.load()
    print("| pair | edit | weights | first shown | second shown | others all right |\n|---|---|---|---|---|---|")
    same = []
    for first, second in options.pair or PAIRS:
        alone = edit_of(denoiser, options.work, first, options.seed)
        both = combine([(alone, 1.0), (edit_of(denoiser, options.work, second, options.seed, first), 1.0)])
        apart = combine([(alone, 1.0), (edit_of(denoiser, options.work, second, options.seed), 1.0)])
        conditions = {
            "none": Edit({}),
            f"{first} alone": alone,
            f"{first}, then {second} with it in place": both,
            f"the same, {second} taken out again": without(both, "2"),
            f"{first} and {second}, made apart": apart,
        }
        seen = {}
        for name, edit in conditions.items():
            counts, seen[name] = row(denoiser, judge, first, second, edit, options.pictures, options.seed)
            asked = (options.pictures, options.pictures, 2 * options.pictures)
            cells = [f"{count / of:.0%}" for count, of in zip(counts, asked, strict=True)]
            print(f"| {first}, {second} | {name} | {len(edit):,} | {' | '.join(cells)} |", flush=True)
        before, again = seen[f"{first} alone"], seen[f"the same, {second} taken out again"]
        same.append(before.equal(again))
    print(f"\nPictures after taking out are those of the first alone, bit for bit: {'yes' if all(same) else 'no'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
