"""An audit as a page to read and as numbers: index.html, results.json and the pictures themselves."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL.Image import Image

from ..errors import CadError
from ..files import written_whole
from ..images import save_picture
from ..measures.measure import Measure
from ..report.grid import GridRow, before_after_grid
from ..report.html import Block, Report, ReportImage, ReportSection, ReportTable, Share, settings_table, write_report
from ..report.png import png_bytes
from ..report.text import percent
from .audit import Audit, Pictures
from .settings import unedited
from .wilson import wilson_interval

COLUMNS, ROWS = 6, 8
"""Pictures in a row of a grid, and rows of one, at most; all of them are in the folders."""
NOT_COUNTED = "Nothing was counted: no measure that says whether a picture shows the concept was given. Look at the pictures."


def write_audit(
    out: Path, audit: Audit, measures: tuple[Sequence[Measure], Sequence[Measure]], made_with: dict[str, Any]
) -> dict[str, Any]:
    """Write index.html, results.json and folders of pictures into `out`, and return what results.json holds.

    `measures` are those of the concept and of what must stay; `made_with` says which model and edits. Raises CadError when the place
    cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        files = {name: _write_pictures(out / name.replace(" ", "-"), group) for name, group in groups(audit).items()}
    except OSError as error:
        raise CadError(f"cannot write into the folder {out}: {error.strerror}; choose another place") from error
    results = described(audit, made_with)
    results["pictures"] = {
        name: [
            {"file": f"{place.relative_to(out).as_posix()}", "prompt": prompt, "seed": seed}
            for place, prompt, seed in zip(files[name], group.prompts, group.seeds, strict=True)
        ]
        for name, group in groups(audit).items()
    }
    write_report(out / "index.html", audit_report(audit, measures, made_with))
    with written_whole(out / "results.json") as temporary:
        temporary.write_text(json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    return results


def groups(audit: Audit) -> dict[str, Pictures]:
    """All pictures by what they are."""
    kept = {} if audit.kept is None or audit.kept_after is None else {"kept before": audit.kept, "kept after": audit.kept_after}
    attempts = {f"attempt {number}": attempt.painted for number, attempt in enumerate(audit.attempts, start=1)}
    attempts |= {f"attempt {number} before": each.unedited for number, each in enumerate(audit.attempts, start=1) if each.unedited}
    return {"before": audit.concept, "after": audit.concept_after, **kept, **attempts}


def _write_pictures(folder: Path, group: Pictures) -> list[Path]:
    folder.mkdir(exist_ok=True)
    places = [folder / f"{number:04d}_seed{seed}.png" for number, seed in enumerate(group.seeds)]
    for place, picture in zip(places, group.pictures, strict=True):
        save_picture(place, picture)
    return places


def described(audit: Audit, made_with: dict[str, Any]) -> dict[str, Any]:
    """An audit in numbers, as JSON has it."""
    return {
        "concept": audit.settings.concept,
        "verdicts": {
            name: {"verdict": found.word, "brought_back_by": list(found.brought_back), "sentence": found.sentence}
            for name, found in audit.verdicts.items()
        },
        "shown": {
            name: [
                {"in": each.name, "pictures": each.pictures, "of": each.of, "interval": list(wilson_interval(each.pictures, each.of))}
                for each in seen
            ]
            for name, seen in audit.shown.items()
        },
        "attempts": [{"name": attempt.name, "asked": attempt.asked} for attempt in audit.attempts],
        "values": audit.values,
        "drift": [{"prompt": each.prompt, "distance": each.distance, "yardstick": each.yardstick} for each in audit.drift],
        "made_with": made_with,
        "settings": {name: list(value) if isinstance(value, tuple) else value for name, value in vars(audit.settings).items()},
    }


def summary(audit: Audit) -> str:
    """The verdicts in plain language; of several measures, each in turn."""
    if not audit.verdicts:
        return NOT_COUNTED
    if len(audit.verdicts) == 1:
        return next(iter(audit.verdicts.values())).sentence
    return " ".join(f"By {name}: {found.sentence}" for name, found in audit.verdicts.items())


def audit_report(audit: Audit, measures: tuple[Sequence[Measure], Sequence[Measure]], made_with: dict[str, Any]) -> Report:
    """The page. `measures` and `made_with` as for write_audit."""
    sections = [ReportSection("Prompts that ask for it", list(_asked(audit, measures[0])))]
    if audit.kept is not None:
        sections.append(ReportSection("Prompts that must stay", list(_stayed(audit, measures[1]))))
    sections.append(ReportSection("Trying to bring it back", list(_brought_back(audit, measures[0]))))
    settings = {name: value for name, value in vars(audit.settings).items() if name not in ("prompts", "keep", "paraphrases")}
    sections.append(ReportSection("What this can and cannot say", [LIMITS]))
    sections.append(ReportSection("Settings", [settings_table({**made_with, **settings})]))
    return Report(f"Audit: “{audit.settings.concept}”", summary(audit), sections)


LIMITS = (
    "An edit keeps a concept out of what these prompts ask for. That it cannot be brought back by any prompt, embedding or further change "
    "of the weights is not claimed, whatever the tables say: whoever has the weights can search longer than this audit did. Intervals are "
    "95 % Wilson intervals of the pictures counted; a measure can be wrong about a picture, so look at them."
)


def _asked(audit: Audit, measures: Sequence[Measure]) -> Iterator[Block]:
    yield from _tables(
        audit, measures, [("before", "Without the edit"), ("after", "With the edit")], "Pictures of these prompts, same seeds"
    )
    yield from _grids(
        audit, audit.concept, audit.concept_after, measures, ("before", "after"), "Pictures without and with the edit, same seeds"
    )


def _stayed(audit: Audit, measures: Sequence[Measure]) -> Iterator[Block]:
    assert audit.kept is not None
    assert audit.kept_after is not None
    yield from _tables(audit, measures, [("kept before", "Without the edit"), ("kept after", "With the edit")], "Pictures of these prompts")
    rows: list[list[Any]] = []
    for each in audit.drift:
        apart = (
            None
            if not each.yardstick
            else Share(min(each.distance / each.yardstick, 1.0), percent(round(each.distance / each.yardstick, 2)))
        )
        rows.append([each.prompt, round(each.distance, 4), apart])
    caption = (
        "How far pictures have moved: root mean square difference of pixels in [0, 1], same seeds; beside it as a part of the difference "
    )
    caption += "between pictures of the same prompt and other seeds" if audit.settings.count > 1 else "between these prompts' pictures"
    yield ReportTable(["Prompt", "Moved by", "Of another picture's difference"], rows, caption=caption, folded=len(rows) > ROWS)
    yield from _grids(audit, audit.kept, audit.kept_after, measures, ("kept before", "kept after"), "Pictures that must stay, same seeds")


def _brought_back(audit: Audit, measures: Sequence[Measure]) -> Iterator[Block]:
    if not audit.attempts:
        yield "Nothing was tried."
        return
    rows = [("after", "The edit alone")]
    for attempt in audit.attempts:
        names = [unedited(attempt.name)] if attempt.unedited is not None else []
        rows += [(name, name[0].upper() + name[1:]) for name in [*names, attempt.name]]
    yield from _tables(audit, measures, rows, "Pictures of the edited model, where nothing else is said")
    counting = next((measure for measure in measures if measure.counts), None)
    for attempt in audit.attempts:
        beside, key = (audit.concept_after, "after") if attempt.unedited is None else (attempt.unedited, unedited(attempt.name))
        count = min(COLUMNS, len(attempt.painted.pictures), len(beside.pictures))
        ok = [
            None if counting is None else [value > 0 for value in audit.values[counting.name][group][:count]]
            for group in (key, attempt.name)
        ]
        row = GridRow(f"{attempt.name}: {attempt.asked}", beside.pictures[:count], attempt.painted.pictures[:count], ok[0], ok[1])
        labels = ("edit", "tried") if attempt.unedited is None else ("before", "after")
        grid = before_after_grid([row], labels=labels, verdict="" if counting is None else counting.name)
        whose = "edited" if attempt.unedited is None else "unedited"
        yield ReportImage(png_bytes(grid), f"The {whose} model's pictures, and under them those of {attempt.name}")


def _tables(audit: Audit, measures: Sequence[Measure], rows: list[tuple[str, str]], caption: str) -> Iterator[Block]:
    for measure in measures:
        values = audit.values[measure.name]
        if measure.counts:
            cells: list[list[Any]] = []
            for key, label in rows:
                hits, of = sum(value > 0 for value in values[key]), len(values[key])
                low, high = wilson_interval(hits, of)
                cells.append([label, Share(hits / of), f"{hits} of {of}", f"{percent(round(low, 2))} to {percent(round(high, 2))}"])
            yield ReportTable(["", "Share", "Pictures", "95 % interval"], cells, caption=f"{caption}: {measure.name}")
        else:
            means: list[list[Any]] = [[label, sum(values[key]) / len(values[key]), len(values[key])] for key, label in rows]
            yield ReportTable(["", "Mean", "Pictures"], means, caption=f"{caption}: {measure.name}")


def asked_grid(audit: Audit, measures: Sequence[Measure]) -> Image:
    """The concept's prompts without and with the edit, side by side, as one picture."""
    return _grid(audit, audit.concept, audit.concept_after, measures, ("before", "after"))


def _grids(
    audit: Audit, before: Pictures, after: Pictures, measures: Sequence[Measure], keys: tuple[str, str], alt: str
) -> Iterator[Block]:
    grid = _grid(audit, before, after, measures, keys)
    hidden = len(before.prompts) - min(ROWS, len(before.prompts) // audit.settings.count) * min(audit.settings.count, COLUMNS)
    caption = (
        f"{hidden} more pictures are in the folders “{keys[0].replace(' ', '-')}” and “{keys[1].replace(' ', '-')}”." if hidden else ""
    )
    yield ReportImage(png_bytes(grid), alt, caption)


def _grid(audit: Audit, before: Pictures, after: Pictures, measures: Sequence[Measure], keys: tuple[str, str]) -> Image:
    """A row for each prompt, with the verdicts of the first measure that counts."""
    counting = next((measure for measure in measures if measure.counts), None)
    marks = [None if counting is None else [value > 0 for value in audit.values[counting.name][key]] for key in keys]
    count, rows = audit.settings.count, []
    for start in range(0, len(before.prompts), count)[:ROWS]:
        part = slice(start, start + min(count, COLUMNS))
        ok = [None if seen is None else seen[part] for seen in marks]
        rows.append(GridRow(before.prompts[start], before.pictures[part], after.pictures[part], ok[0], ok[1]))
    seeds = [f"seed {seed}" for seed in before.seeds[: min(count, COLUMNS)]]
    return before_after_grid(rows, columns=seeds, verdict="" if counting is None else counting.name)
