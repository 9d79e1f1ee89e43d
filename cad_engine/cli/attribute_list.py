"""cad attribute-list: many concepts of one model, a file each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .attribute import next_command
from .choices import Choices, with_choices
from .common import Json, Model, bar_columns, check_output, show

if TYPE_CHECKING:
    from ..progress import Progress


@with_choices
def attribute_list(
    model: Model,
    concepts: Annotated[
        Path,
        typer.Argument(
            metavar="LIST", help="A text file: a concept a line, or CONCEPT | BASE PROMPT; lines that begin with # are skipped."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The folder for the attribution files, one for each concept, named after it.")],
    choices: Choices,
    base: Annotated[str, typer.Option(help="The base prompt of concepts whose line names none; empty is the paper's.")] = "",
    json: Json = False,
) -> None:
    """Attribute every concept of LIST to the weights of MODEL.

    What is finished is not done again: the same command goes on where it was interrupted. Under torchrun, processes share the concepts.
    """
    from ..attribution_file import load_attribution
    from ..concept_list import read_list
    from ..errors import shown
    from ..processes import joined
    from ..several_concepts import Wanted, attribute_concepts
    from ..vocabulary import Vocabulary

    processes = joined()
    listed = read_list(concepts, base)
    for one in listed:  # what is wrong with the settings of any model is said before it is loaded
        with _line(concepts, one.line):
            choices.settings("", one.concept, one.base)
    if processes.first:
        _make_folder(out)
        check_output(out / listed[0].file_name, model, concepts)
    denoiser = choices.load(model, processes)
    vocabulary = Vocabulary.of(denoiser.pipeline.tokenizer, denoiser.pipeline.text_encoder)
    wanted, remarks = [], []
    for one in listed:
        with _line(concepts, one.line):
            settings, said = choices.fitted(denoiser, vocabulary, one.concept, one.base)
        wanted.append(Wanted(settings, out / one.file_name))
        remarks.append(said)
    began = time.monotonic()
    with _two_bars(processes.first) as progress:
        made = attribute_concepts(denoiser, wanted, processes, progress, choices.source(model, denoiser))
    if not processes.first:
        return
    seconds = time.monotonic() - began
    files = [
        {"concept": one.settings.concept, "file": str(one.path), "made": one.path in made, "remarks": list(said)}
        for one, said in zip(wanted, remarks, strict=True)
    ]
    before, first = len(wanted) - len(made), wanted[0]
    result = {"folder": str(out), "files": files, "made": len(made), "there_already": before, "processes": processes.size}
    command = next_command(model, first.path, load_attribution(first.path), bool(first.settings.kept_prompts))
    by = "" if processes.size == 1 else f" by {processes.size} processes"
    lines = (
        f"{len(wanted)} concepts in {out}: {len(made)} made in {seconds:.1f} s{by}, {before} there already",
        *(remark for remark in remarks[0] if all(remark in said for said in remarks)),
        f"next, for {shown(first.settings.concept)!r}: {command}",
    )
    show({**result, "seconds": round(seconds, 2)}, json, "\n".join(lines))


@contextmanager
def _line(path: Path, number: int) -> Iterator[None]:
    """A CadError of the block says which line of the list it is about."""
    from ..errors import CadError

    try:
        yield
    except CadError as error:
        raise CadError(f"{path}, line {number}: {error}") from error


def _make_folder(path: Path) -> None:
    from ..errors import CadError

    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CadError(f"cannot make the folder {path}: {error.strerror}; choose another place") from error


@contextmanager
def _two_bars(shown: bool) -> Iterator[Progress]:
    """A Progress that draws a bar for the concepts and one for this process's stage on stderr; nothing unless they are to be `shown`."""
    from rich.console import Console
    from rich.progress import Progress as Bars

    from ..several_concepts import CONCEPTS

    bars = Bars(*bar_columns(), console=Console(stderr=True))
    concepts, own = (bars.add_task(name, total=None, visible=False) for name in (CONCEPTS, ""))
    with ExitStack() as drawn:
        at = ""

        def report(stage: str, done: int, total: int) -> None:
            nonlocal at
            if not shown:
                return
            if not bars.live.is_started:  # a list that is refused has none
                drawn.enter_context(bars)
            if stage == CONCEPTS:
                bars.update(concepts, completed=done, total=total, visible=True)
                return
            if stage != at:
                at = stage
                bars.reset(own, description=stage, visible=True)
            bars.update(own, completed=done, total=total)

        yield report
