"""One audit: a model before and after an edit, over prompts and seeds, and what was tried to bring the concept back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from torch import Tensor

from ..measures.measure import Measure
from ..progress import Progress, silent
from .model import AuditedModel
from .settings import AuditSettings
from .verdict import ENOUGH, Shown, Verdict, verdict


@dataclass(frozen=True)
class Pictures:
    """Pictures [N, 3, H, W] in [0, 1], each with its prompt and seed."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    pictures: Tensor


@dataclass(frozen=True)
class Attempt:
    """Pictures of the edited model that were to show the concept again.

    Attributes:
        name: how.
        asked: in what words.
        painted: what came out.
        beside: what it is to be compared with: the unedited model's pictures of other words, else the edited model's of the concept's own.
        unedited: whether `beside` is the unedited model's.
    """

    name: str
    asked: str
    painted: Pictures
    beside: Pictures
    unedited: bool = False


@dataclass(frozen=True)
class Drift:
    """How far pictures of a prompt that must stay have moved.

    Attributes:
        distance: root mean square difference of the pictures with the edit to those without it, same seeds; pixels in [0, 1].
        yardstick: the same between the unedited model's pictures of other seeds, or of other prompts where there is one seed; None where
            there is neither.
    """

    prompt: str
    distance: float
    yardstick: float | None


@dataclass(frozen=True)
class Audit:
    """What was seen.

    Attributes:
        concept, concept_after: pictures of the concept's prompts without and with the edit; `kept`, `kept_after` of those that must stay.
        values: by the name of a measure and of a group of pictures ("before", "after", "kept before", "kept after", an
            attempt's name, or that with ", unedited"),
            one number a picture.
        shown: by the name of a measure that counts, the concept's prompts before and after, and every attempt.
        verdicts: by the name of a measure that counts.
    """

    settings: AuditSettings
    concept: Pictures
    concept_after: Pictures
    kept: Pictures | None
    kept_after: Pictures | None
    attempts: tuple[Attempt, ...]
    drift: tuple[Drift, ...]
    values: dict[str, dict[str, list[float]]]
    shown: dict[str, list[Shown]]
    verdicts: dict[str, Verdict]


def run_audit(
    model: AuditedModel,
    settings: AuditSettings,
    concept_measures: Sequence[Measure],
    kept_measures: Sequence[Measure] = (),
    progress: Progress = silent,
) -> Audit:
    """Paint without and with the edit, try to bring the concept back, and measure.

    `concept_measures` say whether a picture shows the concept, `kept_measures` whether one that must stay is right. Raises CadError for
    settings that make no sense.
    """
    settings.check()

    def painted(paint: Callable[..., Tensor], stage: str, prompts: Sequence[str]) -> Pictures:
        each = [(prompt, settings.seed + i) for prompt in prompts for i in range(settings.count)]
        texts, seeds = (tuple(part) for part in zip(*each, strict=True))
        return Pictures(texts, seeds, paint(texts, seeds, staged(progress, stage)))

    before = painted(model.before, "pictures before", settings.prompts)
    kept = painted(model.before, "kept before", settings.keep) if settings.keep else None
    reworded = painted(model.before, "other words before", settings.paraphrases) if settings.paraphrases else None
    if settings.iterations:
        model.remember(settings.prompts[0], staged(progress, "states for the attack"))
    after = painted(model.after, "pictures after", settings.prompts)
    kept_after = painted(model.after, "kept after", settings.keep) if settings.keep else None
    attempts = []
    if reworded is not None:
        found = painted(model.after, "other words after", settings.paraphrases)
        attempts.append(Attempt("other words", ", ".join(settings.paraphrases), found, reworded, unedited=True))
    for name, start in settings.starts().items():
        seeds = tuple(settings.seed + i for i in range(len(before.seeds)))
        pictures = model.attacked(start, seeds, staged(progress, f"attack from {name}"), staged(progress, f"pictures of it, from {name}"))
        found = Pictures(("(an embedding)",) * len(seeds), seeds, pictures)
        attempts.append(Attempt(f"an embedding found by gradient from {name}", start, found, after))
    if settings.amplify:
        pictures = model.amplified(
            before.pictures, before.prompts, before.seeds, staged(progress, "CAD-Amplify"), staged(progress, "pictures amplified")
        )
        attempts.append(Attempt("CAD-Amplify", settings.concept, Pictures(before.prompts, before.seeds, pictures), after))
    return _measured(settings, before, after, kept, kept_after, tuple(attempts), concept_measures, kept_measures)


def staged(progress: Progress, stage: str) -> Progress:
    """`progress` under another name, so that every part of an audit has a bar of its own."""

    def report(_: str, done: int, total: int) -> None:
        progress(stage, done, total)

    return report


def _measured(
    settings: AuditSettings,
    before: Pictures,
    after: Pictures,
    kept: Pictures | None,
    kept_after: Pictures | None,
    attempts: tuple[Attempt, ...],
    concept_measures: Sequence[Measure],
    kept_measures: Sequence[Measure],
) -> Audit:
    groups = {"before": before, "after": after, **{attempt.name: attempt.painted for attempt in attempts}}
    groups |= {f"{attempt.name}, unedited": attempt.beside for attempt in attempts if attempt.unedited}
    values = {measure.name: {name: _values(measure, group) for name, group in groups.items()} for measure in concept_measures}
    shown: dict[str, list[Shown]] = {}
    verdicts: dict[str, Verdict] = {}
    for measure in concept_measures:
        if measure.counts:
            seen = {name: Shown(name, sum(value > 0 for value in found), len(found)) for name, found in values[measure.name].items()}
            shown[measure.name] = list(seen.values())
            # Words that do not make the unedited model draw the concept are no attempt to bring it back.
            vain = [each.name for each in attempts if each.unedited and seen[f"{each.name}, unedited"].share < ENOUGH]
            tried = [seen[each.name] for each in attempts if each.name not in vain]
            untried = [*settings.untried(), *(f"{name} (the unedited model hardly shows it with these)" for name in vain)]
            verdicts[measure.name] = verdict(settings.concept, seen["before"], seen["after"], tried, untried)
    if kept is not None and kept_after is not None:
        for measure in kept_measures:
            found = {name: _values(measure, group) for name, group in (("kept before", kept), ("kept after", kept_after))}
            values[measure.name] = {**values.get(measure.name, {}), **found}
    drift = tuple(_drifts(settings, kept, kept_after)) if kept is not None and kept_after is not None else ()
    return Audit(settings, before, after, kept, kept_after, attempts, drift, values, shown, verdicts)


def _values(measure: Measure, group: Pictures) -> list[float]:
    return [float(value) for value in measure.values(group.pictures, group.prompts)]


def _drifts(settings: AuditSettings, kept: Pictures, kept_after: Pictures) -> Iterator[Drift]:
    """For each prompt that must stay; pictures are in the prompts' order, `count` of each."""
    parts = list(kept.pictures.split(settings.count))
    others = [_distance(one, other) for one, other in combinations([part[0] for part in parts], 2)]
    between = sum(others) / len(others) if others else None
    for prompt, part, moved in zip(settings.keep, parts, kept_after.pictures.split(settings.count), strict=True):
        seeds = [_distance(one, other) for one, other in combinations(part, 2)]
        yield Drift(prompt, _distance(part, moved), sum(seeds) / len(seeds) if seeds else between)


def _distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).double().square().mean().sqrt())
