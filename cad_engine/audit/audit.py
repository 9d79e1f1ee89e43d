"""One audit: a model before and after an edit, over prompts and seeds, and what was tried to bring the concept back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import Tensor

from ..checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from ..concept import attribute_concept
from ..edit import Edit, applied
from ..erasure import edit_from_attribution
from ..generate import paint_conditionings
from ..measures.measure import Measure
from ..progress import Progress, silent
from .attack import AttackStates, attack, attack_states
from .settings import ATTACK_BATCH, STATE_PICTURES, AuditSettings
from .verdict import Shown, Verdict, verdict

ATTACK_SEED = 10_000
"""Added to the seed for the states that the attack learns from, far from those of the pictures that are counted."""


@dataclass(frozen=True)
class Pictures:
    """Pictures [N, 3, H, W] in [0, 1], each with its prompt and seed."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    pictures: Tensor


@dataclass(frozen=True)
class Attempt:
    """Pictures of the edited model that were to show the concept again: `name` says how, `asked` in what words."""

    name: str
    asked: str
    painted: Pictures


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
        values: by the name of a measure and of a group of pictures ("before", "after", "kept before", "kept after", or an attempt's name),
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
    denoiser: DiffusersDenoiser,
    edit: Edit,
    settings: AuditSettings,
    concept_measures: Sequence[Measure],
    kept_measures: Sequence[Measure] = (),
    progress: Progress = silent,
) -> Audit:
    """Paint, edit, paint again, try to bring the concept back, and measure; the model is left to the bit as it was.

    `concept_measures` say whether a picture shows the concept, `kept_measures` whether one that must stay is right. Raises CadError for
    settings that make no sense, and for an edit of another architecture.
    """
    settings.check()
    painter = _Painter(denoiser, settings, progress)
    weights = {name: module.weight for name, module in denoiser.layers.items()}
    with applied(edit, weights):
        pass  # an edit that does not fit is said before anything is painted
    before = painter.prompts("pictures before", settings.prompts)
    kept = painter.prompts("kept before", settings.keep) if settings.keep else None
    states = painter.states() if settings.iterations else None
    with applied(edit, weights):
        after = painter.prompts("pictures after", settings.prompts)
        kept_after = painter.prompts("kept after", settings.keep) if settings.keep else None
        attempts = tuple(_attempts(painter, before, states, weights))
    groups = {"before": before, "after": after, **{attempt.name: attempt.painted for attempt in attempts}}
    values = {measure.name: {name: _values(measure, group) for name, group in groups.items()} for measure in concept_measures}
    shown: dict[str, list[Shown]] = {}
    verdicts: dict[str, Verdict] = {}
    for measure in concept_measures:
        if measure.counts:
            seen = [Shown(name, sum(value > 0 for value in found), len(found)) for name, found in values[measure.name].items()]
            shown[measure.name] = seen
            verdicts[measure.name] = verdict(settings.concept, seen[0], seen[1], seen[2:])
    if kept is not None and kept_after is not None:
        for measure in kept_measures:
            found = {name: _values(measure, group) for name, group in (("kept before", kept), ("kept after", kept_after))}
            values[measure.name] = {**values.get(measure.name, {}), **found}
    drift = tuple(_drifts(settings, kept, kept_after)) if kept is not None and kept_after is not None else ()
    return Audit(settings, before, after, kept, kept_after, attempts, drift, values, shown, verdicts)


class _Painter:
    """Pictures of one audit, from the model as it is when they are asked for."""

    def __init__(self, denoiser: DiffusersDenoiser, settings: AuditSettings, progress: Progress) -> None:
        self.denoiser, self.settings, self._progress = denoiser, settings, progress

    def staged(self, stage: str) -> Progress:
        """Progress under another name, so that every part has a bar of its own."""

        def report(_: str, done: int, total: int) -> None:
            self._progress(stage, done, total)

        return report

    def prompts(self, stage: str, prompts: Sequence[str]) -> Pictures:
        """`count` pictures of each prompt."""
        each = [(prompt, self.settings.seed + i) for prompt in prompts for i in range(self.settings.count)]
        encoded = {prompt: self.denoiser.encode_prompt(prompt) for prompt in prompts}
        texts, seeds = zip(*each, strict=True)
        return Pictures(texts, seeds, self._paint(stage, [encoded[prompt] for prompt in texts], seeds))

    def again(self, stage: str, conditioning: PromptConditioning, words: str, like: Pictures) -> Pictures:
        """As many pictures as `like` has, of one conditioning that stands for `words`, each of a seed of its own."""
        seeds = tuple(self.settings.seed + i for i in range(len(like.seeds)))
        return Pictures((words,) * len(seeds), seeds, self._paint(stage, [conditioning] * len(seeds), seeds))

    def _paint(self, stage: str, conditionings: Sequence[PromptConditioning], seeds: Sequence[int]) -> Tensor:
        given = self.settings
        pictures = paint_conditionings(
            self.denoiser,
            conditionings,
            seeds,
            steps=given.steps,
            cfg=given.cfg,
            batch=given.batch,
            size=given.size,
            progress=self.staged(stage),
        )
        return torch.stack(list(pictures))

    def states(self) -> AttackStates:
        """What the attack is to reproduce, from the model as it is."""
        given = self.settings
        return attack_states(
            self.denoiser,
            given.prompts[0],
            given.seed + ATTACK_SEED,
            STATE_PICTURES,
            steps=given.steps,
            cfg=given.cfg,
            batch=given.batch,
            size=given.size,
            progress=self.staged("states for the attack"),
        )


def _attempts(painter: _Painter, before: Pictures, states: AttackStates | None, weights: dict[str, Tensor]) -> Iterator[Attempt]:
    """What may bring the concept back, tried on the model as it is now."""
    settings, denoiser = painter.settings, painter.denoiser
    if settings.paraphrases:
        yield Attempt("other words", "paraphrases", painter.prompts("other words", settings.paraphrases))
    if states is not None:
        starts = {"the concept's own prompt": settings.prompts[0], "the base prompt": settings.base}
        for name, prompt in starts.items():
            stage = f"attack from {name}"
            found = attack(
                denoiser,
                denoiser.encode_prompt(prompt),
                states,
                iterations=settings.iterations,
                batch=ATTACK_BATCH,
                seed=settings.seed,
                checkpointing=settings.checkpointing,
                progress=painter.staged(stage),
            )
            yield Attempt(
                f"an embedding found by gradient from {name}",
                prompt,
                painter.again(f"pictures of it, from {name}", found.conditioning, "(an embedding)", before),
            )
    if settings.amplify:
        latents = denoiser.encode(before.pictures)
        attribution = attribute_concept(denoiser, settings.amplifying(), latents, painter.staged("CAD-Amplify"))
        with applied(edit_from_attribution(attribution, settings.ratio, "row_min1"), weights):
            yield Attempt("CAD-Amplify", settings.concept, painter.prompts("pictures amplified", settings.prompts))


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
