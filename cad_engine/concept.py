"""From a concept in words to its attribution: the whole left half of the design in one call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from . import __version__
from .attribution import Attribution, attribute, plain_attribution, solved_attribution
from .components import choose_layers
from .contexts import Pair, check_contexts, pairs
from .denoiser import Conditioning, Denoiser
from .errors import CadError
from .fingerprint import fingerprint
from .goal_maker import GoalMaker, Sampling
from .keep import States, kept_states
from .objective import Kind, Objective, amplify_objective, erase_objective
from .progress import Progress, silent
from .rounds import solve
from .schedule import Spacing
from .step_down import Footprint, stepping_down
from .trajectory import Point, sample_trajectories, together
from .while_sampling import Prompts, scores_while_sampling


@dataclass(frozen=True)
class ConceptSettings:
    """What to attribute and how.

    Attributes:
        concept: the words scored, c of the paper: "star", "a photo in the style of Van Gogh".
        base: the base prompt c_b; "" is the paper's.
        keep: prompts whose pictures must stay. With any, weights are ranked by attribution per harm (see harm.py), which is made for
            the selection rule "global", and to erase, half of the trajectories are the base prompt's, as that is where a picture turns into
            the concept. Without, by the attribution alone, as in the paper. Empty lines do not count.
        rounds: 0 ranks weights once, at the unedited model. With more, which needs a keep list and "erase", the edit itself is found in at
            most so many rounds (see rounds.py), and the attribution carries it.
        contexts: for rounds, sentences with {} in the concept's place: "a photo of {}" (see contexts.py).
        prompt: the words that sample the trajectories; "" means the concept itself (the paper: "a photo of a X").
        objective: "erase" (eq. 6) or "amplify" (eq. 7).
        components: groups of layers, see components.GROUPS.
        trajectories, steps, cfg, seed, spacing: of sampling (erase); steps are noise levels per image for amplify.
        batch: samples computed together; changes speed and memory, not the scores (but see LayerScores.timestep_mass).
        size: (height, width) of the latents; None for the model's own.
        keep_ratio: selections up to this ratio stay exact; None keeps all scores of a small model and 1 % of a large one.
        checkpointing: recompute activations in backward, for less memory.
    """

    concept: str
    base: str = ""
    keep: tuple[str, ...] = ()
    rounds: int = 0
    contexts: tuple[str, ...] = ()
    prompt: str = ""
    objective: Kind = "erase"
    components: tuple[str, ...] = ("ff",)
    trajectories: int = 20
    steps: int = 10
    cfg: float = 3.0
    seed: int = 0
    spacing: Spacing = "trailing"
    batch: int = 4
    size: tuple[int, int] | None = None
    keep_ratio: float | None = None
    checkpointing: bool = False

    def check(self) -> None:
        """Raise CadError for an empty concept, one equal to the base or to what is kept, or a count that makes no sense."""
        if not self.concept.strip():
            raise CadError("the concept is empty; say what is to be attributed, e.g. 'star' or 'van gogh'")
        if self.objective == "erase" and self.concept.strip() == self.base.strip():
            raise CadError(f"the concept {self.concept!r} and the base prompt are the same, so there is nothing to tell apart; change one")
        for kept in self.kept_prompts:
            if kept.casefold() == self.concept.strip().casefold():
                raise CadError(f"the concept {self.concept!r} is also among the prompts to keep; take it out of one of the two")
        if self.objective not in ("erase", "amplify"):
            raise CadError(f"objective must be erase or amplify, got {self.objective!r}")
        if not 0 <= self.rounds <= 20:
            raise CadError(f"rounds must be between 0 and 20, got {self.rounds}")
        if self.rounds and self.objective != "erase":
            raise CadError(f"rounds are for the objective erase, and this one is {self.objective}; set rounds to 0")
        if self.rounds and not self.kept_prompts:
            raise CadError("rounds need prompts to keep, or everything else would go with the concept; name a few, or set rounds to 0")
        check_contexts(self.context_lines)
        for name in ("trajectories", "steps", "batch"):
            if getattr(self, name) < 1:
                raise CadError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.cfg >= 1:  # also refuses NaN
            raise CadError(f"cfg (guidance) must be at least 1, got {self.cfg:g}")
        if not 0 <= self.seed < 2**63:
            raise CadError(f"seed must be between 0 and 2^63 - 1, got {self.seed}")
        if self.keep_ratio is not None and not 0 < self.keep_ratio <= 1:
            raise CadError(f"keep ratio must be in (0, 1], got {self.keep_ratio:g}")

    @property
    def kept_prompts(self) -> tuple[str, ...]:
        """`keep` without empty lines, surrounding blanks and repetitions."""
        return tuple(dict.fromkeys(line.strip() for line in self.keep if line.strip()))

    @property
    def context_lines(self) -> tuple[str, ...]:
        """`contexts` without empty lines, surrounding blanks and repetitions."""
        return tuple(dict.fromkeys(line.strip() for line in self.contexts if line.strip()))

    def pairs(self) -> tuple[Pair, ...]:
        """The concept's prompts and their bases, alone and in every context."""
        return pairs(self.concept, self.base, self.context_lines)

    def prompts(self) -> tuple[str, ...]:
        """Every prompt that may be encoded for these settings, each once: whoever must encode before the UNet is loaded takes these."""
        base = (self.base,) if self.objective == "erase" else ()
        in_rounds = [prompt for pair in self.pairs() for prompt in (pair.concept, pair.base)] if self.rounds else []
        return tuple(dict.fromkeys((self.concept, self.prompt or self.concept, "", *base, *self.kept_prompts, *in_rounds)))

    def latent_shape(self, denoiser: Denoiser) -> tuple[int, int, int]:
        """(channels, height, width) of the latents that are sampled."""
        return denoiser.latent_shape if self.size is None else (denoiser.latent_shape[0], *self.size)


def concept_objective(
    denoiser: Denoiser, settings: ConceptSettings, latents: Tensor | None = None, progress: Progress = silent
) -> Objective:
    """J for `settings`. Amplifying uses `latents` [N, C, H, W] of the concept's images, or samples `trajectories` of them."""
    settings.check()
    concept = denoiser.encode_prompt(settings.concept)
    if settings.objective == "amplify" and latents is not None:
        return amplify_objective(denoiser, concept, latents, steps=settings.steps, seed=settings.seed)
    points, generated = _sampled(denoiser, settings, progress)
    if settings.objective == "amplify":
        return amplify_objective(denoiser, concept, generated, steps=settings.steps, seed=settings.seed)
    # Sampling has already predicted eps for the empty prompt.
    known = settings.base.strip() == "" and settings.cfg > 1
    base = None if known else denoiser.encode_prompt(settings.base)
    return erase_objective(denoiser, concept, base, points, batch=settings.batch, progress=progress)


def _sampled(denoiser: Denoiser, settings: ConceptSettings, progress: Progress) -> tuple[list[Point], Tensor]:
    """The trajectories of `settings` and their final latents, see ConceptSettings.keep for whose they are."""
    of_base = settings.trajectories // 2 if settings.objective == "erase" and settings.kept_prompts else 0
    parts = [(settings.prompt or settings.concept, settings.trajectories - of_base)]
    if of_base:
        parts.append((settings.base, of_base))
    empty = denoiser.encode_prompt("")
    rounds = [-(-count // settings.batch) * settings.steps for _, count in parts]
    sampled: list[tuple[list[Point], Tensor]] = []
    for number, (prompt, count) in enumerate(parts):

        def staged(stage: str, done: int, _: int, before: int = sum(rounds[:number])) -> None:
            progress(stage, before + done, sum(rounds))

        sampled.append(
            sample_trajectories(
                denoiser,
                denoiser.encode_prompt(prompt),
                empty,
                trajectories=count,
                steps=settings.steps,
                cfg=settings.cfg,
                seed=settings.seed + (parts[0][1] if number else 0),
                batch=settings.batch,
                spacing=settings.spacing,
                latent_shape=settings.latent_shape(denoiser),
                progress=staged,
            )
        )
    return [together(points) for points in zip(*(points for points, _ in sampled), strict=True)], torch.cat([x_0 for _, x_0 in sampled])


def _while_sampling(
    denoiser: Denoiser, settings: ConceptSettings, names: list[str], progress: Progress
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[int]]:
    def encoded(prompt: str, known: str) -> Conditioning | None:
        return None if prompt.strip() == known.strip() else denoiser.encode_prompt(prompt)

    concept = settings.concept
    prompts = Prompts(
        concept=denoiser.encode_prompt(concept),
        base=encoded(settings.base, ""),
        sampled=encoded(settings.prompt or concept, concept),
        empty=denoiser.encode_prompt(""),
    )
    return scores_while_sampling(
        denoiser,
        prompts,
        names,
        trajectories=settings.trajectories,
        steps=settings.steps,
        cfg=settings.cfg,
        seed=settings.seed,
        batch=settings.batch,
        spacing=settings.spacing,
        latent_shape=settings.latent_shape(denoiser),
        checkpointing=settings.checkpointing,
        progress=progress,
    )


def concept_kept(denoiser: Denoiser, settings: ConceptSettings, objective: Objective, progress: Progress = silent) -> list[States]:
    """What must stay for `settings` at their `objective`; nothing without a keep list. Amplifying has no base prompt to keep."""
    if not settings.kept_prompts:
        return []
    return kept_states(
        denoiser,
        settings.kept_prompts,
        settings.base if settings.objective == "erase" else "",
        objective,
        trajectories=settings.trajectories,
        steps=settings.steps,
        cfg=settings.cfg,
        seed=settings.seed,
        batch=settings.batch,
        spacing=settings.spacing,
        latent_shape=settings.latent_shape(denoiser),
        progress=progress,
    )


def concept_goals(denoiser: Denoiser, settings: ConceptSettings) -> GoalMaker:
    """What makes the goals of rounds for `settings`."""
    sampling = Sampling(
        trajectories=settings.trajectories,
        steps=settings.steps,
        cfg=settings.cfg,
        seed=settings.seed,
        batch=settings.batch,
        spacing=settings.spacing,
        latent_shape=settings.latent_shape(denoiser),
    )
    return GoalMaker(denoiser, settings.pairs(), settings.kept_prompts, sampling)


def attribution_info(denoiser: Denoiser, settings: ConceptSettings, images: int | None = None) -> dict[str, Any]:
    """What a file made from this model with these settings, and so many given images, says of itself."""
    described = {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(settings).items()}
    described["keep"] = list(settings.kept_prompts)
    described["contexts"] = list(settings.context_lines)
    if not settings.rounds:
        del described["rounds"], described["contexts"]
    if settings.objective == "amplify":
        del described["base"]
    if images is not None:
        sampling = () if settings.kept_prompts else ("trajectories", "cfg", "spacing")
        described = {key: value for key, value in described.items() if key not in ("prompt", *sampling)}
        described["images"] = images
    return {**described, "family": denoiser.family, "fingerprint": fingerprint(denoiser), "version": __version__}


def attribute_concept(
    denoiser: Denoiser,
    settings: ConceptSettings,
    latents: Tensor | None = None,
    progress: Progress = silent,
    info: Mapping[str, Any] | None = None,
) -> Attribution:
    """Attribution of the chosen components to the concept; `info` is added to what the result says of itself.

    Where the device runs out of memory it begins anew with a smaller batch, then with checkpointing (see step_down.py). Raises CadError for
    settings that make no sense, and when the smallest batch does not fit.
    """
    settings.check()

    def attributed(footprint: Footprint) -> Attribution:
        fitting = replace(settings, batch=footprint.batch, checkpointing=footprint.checkpointing)
        return _attribute(denoiser, fitting, latents, progress, info or {})

    return stepping_down(attributed, Footprint(settings.batch, settings.checkpointing))


def _attribute(
    denoiser: Denoiser, settings: ConceptSettings, latents: Tensor | None, progress: Progress, info: Mapping[str, Any]
) -> Attribution:
    names = choose_layers(denoiser.layers, settings.components)
    described = {**attribution_info(denoiser, settings, None if latents is None else len(latents)), **info}
    if settings.rounds:
        maker = concept_goals(denoiser, settings)
        solution = solve(
            denoiser,
            maker,
            names,
            rounds=settings.rounds,
            seed=settings.seed,
            batch=settings.batch,
            checkpointing=settings.checkpointing,
            progress=progress,
        )
        return solved_attribution(solution, described)
    if settings.objective == "erase" and not settings.kept_prompts:
        scores, timestep_mass, timesteps = _while_sampling(denoiser, settings, names, progress)
        return plain_attribution(denoiser, scores, timestep_mass, timesteps, described, settings.keep_ratio)
    objective = concept_objective(denoiser, settings, latents, progress)
    kept = concept_kept(denoiser, settings, objective, progress)
    return attribute(
        denoiser,
        objective,
        names,
        info=described,
        batch=settings.batch,
        checkpointing=settings.checkpointing,
        keep_ratio=settings.keep_ratio,
        kept=kept,
        seed=settings.seed,
        progress=progress,
    )
