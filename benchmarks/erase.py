"""Erasing concepts from the sandbox, this project's method and its peers in one harness: `python -m benchmarks.erase`.

For every method, concept and seed: is the concept gone, also when it is asked for in other words or by an attack, is everything else still
there, and what did it cost? Every finished cell is kept in a work folder at once, from which an interrupted run goes on.

    python -m benchmarks.erase --quick                                   # three concepts, one seed, no attack
    python -m benchmarks.erase --json erase.json --html erase.html       # everything
    python -m benchmarks.erase --resume DIR --method cad --seed 0        # a part of it, into the same or another work folder

Two processes may work on one folder when they have different methods, concepts or seeds; a last run over all of them then writes the table.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from cad_engine.checkpoints.load import load_model
from cad_engine.cli.common import check_output
from cad_engine.errors import CadError
from cad_engine.files import written_whole
from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.world import COLOURS, STYLES

from .erasing.amplify import amplify_markdown, amplify_table
from .erasing.markdown import markdown_table
from .erasing.page import write_page
from .erasing.rows import concept_rows, method_rows
from .erasing.run import Run, Table
from .erasing.settings import AttackSettings, MeasureSettings
from .erasing.task import WORDS, Method
from .erasing.unedited import UNEDITED
from .erasing.watcher import terminal

CONCEPTS = (*WORDS["shape"], *COLOURS, *(style for style in STYLES if style != "plain"))
"""All that can be erased: "plain" is what no prompt names."""
QUICK_CONCEPTS, QUICK_PICTURES = ("star", "dotted", "red"), 24
SEEDS, PICTURES = (0, 1, 2), 17
"""51 pictures of each measure for every method and concept."""
WORK_FOLDER = Path("artifacts/erase")


def main(arguments: Sequence[str] | None = None, methods: Mapping[str, Method] | None = None) -> int:
    """Run the benchmark and print Markdown tables; the exit code: 1 when cells failed, 2 for what the user can mend, 130 when interrupted.

    `methods` are those to choose from, by name; None for erasing.methods.METHODS.
    """
    if methods is None:
        from .erasing.methods import METHODS

        methods = METHODS
    options = _parser(list(methods)).parse_args(arguments)
    folder = options.resume or (options.json.with_name(f"{options.json.name}.work") if options.json else WORK_FOLDER)
    try:
        return _measure(options, {name: methods[name] for name in options.method or methods if name != UNEDITED}, folder)
    except CadError as error:
        print(f"erase: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"erase: interrupted; what is finished is kept in {folder}, the same command goes on from there", file=sys.stderr)
        return 130


def _parser(methods: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.erase", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add, switch = parser.add_argument, argparse.BooleanOptionalAction
    add("--json", type=Path, metavar="FILE", help="write rows, settings and machine here")
    add("--html", type=Path, metavar="FILE", help="write a page with tables, figure and pictures here")
    add("--quick", action="store_true", help=f"{', '.join(QUICK_CONCEPTS)}, one seed, {QUICK_PICTURES} pictures, no attack, no amplifying")
    add("--concept", action="append", choices=CONCEPTS, metavar="WORD", help="only this; may be repeated; default all")
    add(
        "--method",
        action="append",
        choices=[UNEDITED, *methods],
        metavar="NAME",
        help=f"may be repeated: {', '.join(methods)}; default all",
    )
    add("--seed", action="append", type=_seed, metavar="N", help="may be repeated; default 0, 1 and 2")
    add("--pictures", type=_positive, metavar="N", help=f"of each measure, for every method, concept and seed; default {PICTURES}")
    add("--attack", action=switch, help="the adversarial measure; default on, with --quick off")
    add("--amplify", action=switch, help="the table of the rare shape; default on, with --quick off")
    add("--resume", type=Path, metavar="DIR", help=f"work folder; default FILE.work beside --json, else {WORK_FOLDER}")
    add("--threads", type=_positive, default=1, help="that PyTorch computes with; default 1")
    return parser


def _seed(text: str) -> int:
    seed = int(text)
    if not 0 <= seed < 1000:
        raise argparse.ArgumentTypeError(f"must be between 0 and 999, got {seed}")
    return seed


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _measure(options: argparse.Namespace, methods: Mapping[str, Method], folder: Path) -> int:
    for path, other in ((options.json, None), (options.html, options.json)):
        if path is not None:
            check_output(path, other)
    concepts = options.concept or (QUICK_CONCEPTS if options.quick else CONCEPTS)
    seeds = list(dict.fromkeys(options.seed or (SEEDS[:1] if options.quick else SEEDS)))
    attack = not options.quick if options.attack is None else options.attack
    settings = MeasureSettings(
        pictures=options.pictures or (QUICK_PICTURES if options.quick else PICTURES),
        attack=AttackSettings() if attack else None,
        threads=options.threads,
    )
    torch.set_num_threads(settings.threads)  # before anything is computed
    denoiser, judge = load_model("sandbox"), Judge.load()
    run = Run(denoiser, judge, methods, concepts, seeds, settings, folder)
    amplified = None
    with terminal() as watcher:
        table = run.table(watcher)
        if not options.quick if options.amplify is None else options.amplify:
            amplified = amplify_table(denoiser, judge, seeds, settings, run.made_with, folder, watcher.step)
    if table.cells:
        _write(options, table, run.made_with, folder, amplified)
    for key, reason in table.failures.items():
        print(f"erase: {key.method} failed on {key.concept}, seed {key.seed}: {reason}", file=sys.stderr)
    return 1 if table.failures else 0


def results(table: Table, made_with: dict[str, Any], amplified: dict[str, Any] | None) -> dict[str, Any]:
    """What --json holds."""
    cells = table.cells
    machines = [dict(pairs) for pairs in dict.fromkeys(tuple(cell.machine.items()) for cell in cells)]
    return {
        "settings": made_with,
        "machines": machines,
        "methods": [row.described() for row in method_rows(cells)],
        "rows": [row.described() for row in concept_rows(cells)],
        "failures": [{**asdict(key), "reason": reason} for key, reason in table.failures.items()],
        "amplify": amplified,
    }


def _write(options: argparse.Namespace, table: Table, made_with: dict[str, Any], folder: Path, amplified: dict[str, Any] | None) -> None:
    cells, found = table.cells, results(table, made_with, amplified)
    if options.json is not None:
        with written_whole(options.json) as temporary:
            temporary.write_text(json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    if options.html is not None:
        described = {**made_with, **{f"machine {i}": machine for i, machine in enumerate(found["machines"], start=1)}}
        write_page(options.html, table, described, folder, amplified)
    print(markdown_table(concept_rows(cells), concepts=True))
    print("\nOver all concepts:\n")
    print(markdown_table(method_rows(cells)))
    if amplified is not None:
        print(f"\n{amplify_markdown(amplified)}")


if __name__ == "__main__":
    sys.exit(main())
