"""What an edit is to bring about, in numbers: L = J / J_0 + lambda K / K_0, squared errors of eps(x_t, c, t) against fixed targets.

J is the paper's objective (eq. 6) over several prompts of the concept, pushed a little beyond the base prompt: the target is

    y = eps_0(x_t, c_b, t) - PUSH (eps_0(x_t, c, t) - eps_0(x_t, c_b, t)),

because where the base prompt paints the concept now and then ("a shape" is a star in one picture of six), a model that is as good as
its base still paints it. K is the squared change of what is kept. eps_0 is the unedited model. J_0 and K_0 make both free of units:
J_0 is the mean squared distance of concept and base prediction, K_0 that of a kept prompt's prediction from the empty prompt's.

J is looked at on the way of the concept's own pictures, of its base prompt's, of pictures of nothing in particular (the empty
prompt's, without guidance), and, from the second round on, of those that the edited model paints. K at pictures of the kept prompts
under them and under the empty prompt, and at the states of J under the empty prompt, the base prompts and the kept ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from .contexts import Pair
from .denoiser import Denoiser
from .keep import States
from .progress import Progress, silent
from .schedule import Spacing
from .trajectory import sample_trajectories

PUSH = 0.7
"""How far beyond the base prompt's prediction the target of J lies, in distances of the concept's from it."""
KEEP_WEIGHT = 8.0
"""lambda: what a change of K counts against one of J, each in its unit."""
STATES_OF_CONCEPT, STATES_OF_KEEP = 15, 13
"""States of J, and states of kept prompts' own pictures, for each trajectory of the concept."""


@dataclass(frozen=True)
class Goal:
    """States and what eps is to be there, [N, C, H, W] on the CPU."""

    states: States
    eps: Tensor

    def __len__(self) -> int:
        return len(self.states)


@dataclass(frozen=True)
class Goals:
    """L as a function of the model: J over `erase`, K over `keep` (one goal a prompt), and their units J_0 and K_0."""

    erase: Sequence[Goal]
    keep: Sequence[Goal]
    erase_unit: float
    keep_unit: float

    @property
    def samples(self) -> int:
        return sum(map(len, (*self.erase, *self.keep)))

    @property
    def loss_at_start(self) -> float:
        """J / J_0 of the unedited model, known without looking: the whole way to the target and as far beyond the base."""
        return (1 + PUSH) ** 2

    def weighted(self) -> list[tuple[Goal, float]]:
        """Every goal with the weight of one squared error (summed over a latent's elements) of it in L."""
        parts = []
        for goals, weight, unit in ((self.erase, 1.0, self.erase_unit), (self.keep, KEEP_WEIGHT, self.keep_unit)):
            samples = sum(map(len, goals))
            parts += [(goal, weight / (samples * unit * goal.eps[0].numel())) for goal in goals]
        return parts

    @staticmethod
    def loss(values: tuple[float, float]) -> float:
        """L of (J / J_0, K / K_0)."""
        return values[0] + KEEP_WEIGHT * values[1]

    @torch.no_grad()
    def values(self, denoiser: Denoiser, *, batch: int = 4, progress: Progress = silent) -> tuple[float, float]:
        """(J / J_0, K / K_0) of the model as it is now; forwards only, summed in float64."""
        values, done = [], 0
        for goals, unit in ((self.erase, self.erase_unit), (self.keep, self.keep_unit)):
            total = 0.0
            for goal in goals:
                for t, x_t, eps in _batches(goal, batch):
                    output = denoiser.eps(x_t.to(denoiser.device), t, goal.states.conditioning)
                    total += float((output.cpu() - eps).double().square().flatten(1).mean(dim=1).sum())
                    done += len(x_t)
                    progress("values", done, self.samples)
            values.append(total / (sum(map(len, goals)) * unit))
        return values[0], values[1]


def _batches(goal: Goal, batch: int) -> Iterable[tuple[Tensor, Tensor, Tensor]]:
    return zip(goal.states.t.split(batch), goal.states.x_t.split(batch), goal.eps.split(batch), strict=True)


@dataclass(frozen=True)
class Sampling:
    """How states are sampled: `trajectories` is the number of pictures of the concept, all else as in trajectory.sample_trajectories."""

    trajectories: int
    steps: int
    cfg: float
    seed: int
    batch: int
    spacing: Spacing
    latent_shape: tuple[int, int, int]


@dataclass(frozen=True)
class Sizes:
    """How many pictures and states (t, x_t) there are of each kind, for so many pairs and kept prompts."""

    pictures: int  # of each prompt of the concept
    kept_pictures: int  # of each kept prompt
    free_pictures: int
    own: int  # states from the pictures of each prompt of the concept
    free: int  # states from free pictures, for each pair
    kept: int  # states from the pictures of each kept prompt

    @classmethod
    def of(cls, trajectories: int, steps: int, pairs: int, keep: int) -> Sizes:
        """At least one state of everything, and no more than the pictures have."""
        states = STATES_OF_CONCEPT * trajectories
        pictures, kept_pictures = max(2, trajectories // (2 * pairs)), max(2, 2 * trajectories // keep)
        return cls(
            pictures=pictures,
            kept_pictures=kept_pictures,
            free_pictures=trajectories,
            own=min(max(1, states // (3 * pairs)), pictures * steps),
            free=min(max(1, states // (3 * pairs)), trajectories * steps),
            kept=min(max(1, STATES_OF_KEEP * trajectories // keep), kept_pictures * steps),
        )


class GoalMaker:
    """Samples states with a model and collects the goals of one concept; `pairs` are its prompts, `keep` those that must stay."""

    def __init__(self, denoiser: Denoiser, pairs: Sequence[Pair], keep: Sequence[str], sampling: Sampling) -> None:
        self.denoiser, self.pairs, self.keep, self.sampling = denoiser, pairs, keep, sampling
        self.sizes = Sizes.of(sampling.trajectories, sampling.steps, len(pairs), len(keep))
        self._random = torch.Generator().manual_seed(sampling.seed)
        self._erase: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._kept: dict[str, list[tuple[Tensor, Tensor, Tensor]]] = {}
        self._others = list(dict.fromkeys(["", *(pair.base for pair in pairs), *keep]))
        self._sampled = 0
        self._erase_unit = self._keep_unit = 0.0

    def first(self, progress: Progress = silent) -> Goals:
        """Goals at states of the unedited model."""
        sizes, prompts = self.sizes, [prompt for pair in self.pairs for prompt in dict.fromkeys((pair.concept, pair.base))]
        total = len(prompts) * sizes.pictures + sizes.free_pictures + len(self.keep) * sizes.kept_pictures

        def report(*_: object) -> None:
            progress("sampling for rounds", min(self._sampled, total), total)

        free = self._states("", sizes.free_pictures, report, guided=False)
        distances: list[Tensor] = []
        for pair in self.pairs:
            for prompt in dict.fromkeys((pair.concept, pair.base)):
                chosen = self._some(self._states(prompt, sizes.pictures, report), sizes.own)
                distances.append(self._erase_at(pair, chosen, report))
                self._keep_at((chosen[0][::2], chosen[1][::2]), report)
            chosen = self._some(free, sizes.free)
            distances.append(self._erase_at(pair, chosen, report))
            self._keep_at(chosen, report)
        self._erase_unit = float(torch.cat(distances).mean())
        distances = []
        for prompt in self.keep:
            t, x_t = self._some(self._states(prompt, sizes.kept_pictures, report), sizes.kept)
            eps, empty = self._eps(prompt, t, x_t, report), self._eps("", t, x_t, report)
            self._kept.setdefault(prompt, []).append((t, x_t, eps))
            self._kept.setdefault("", []).append((t[::4], x_t[::4], empty[::4]))
            distances.append((eps - empty).double().square().flatten(1).mean(dim=1))
        self._keep_unit = float(torch.cat(distances).mean())
        return self._goals()

    def sampled_now(self, progress: Progress = silent) -> list[tuple[Pair, tuple[Tensor, Tensor]]]:
        """States on the way of the concept's pictures as the model, edited by whoever calls, paints them now; for `again`."""
        sizes = self.sizes
        return [(pair, self._some(self._states(pair.concept, sizes.pictures, progress), sizes.own)) for pair in self.pairs]

    def again(self, sampled: Iterable[tuple[Pair, tuple[Tensor, Tensor]]], progress: Progress = silent) -> Goals:
        """All goals so far and those at `sampled` states; the model must be unedited again."""
        for pair, states in sampled:
            self._erase_at(pair, states, progress)
            self._keep_at((states[0][::2], states[1][::2]), progress)
        return self._goals()

    def _goals(self) -> Goals:
        return Goals(self._collected(self._erase), self._collected(self._kept), self._erase_unit, self._keep_unit)

    def _collected(self, parts: Mapping[str, Sequence[tuple[Tensor, Tensor, Tensor]]]) -> list[Goal]:
        goals = []
        for prompt, chunks in parts.items():
            t, x_t, eps = (torch.cat(column) for column in zip(*chunks, strict=True))
            goals.append(Goal(States(self.denoiser.encode_prompt(prompt), t, x_t), eps))
        return goals

    def _states(self, prompt: str, pictures: int, progress: Progress, guided: bool = True) -> tuple[Tensor, Tensor]:
        """All (t, x_t) on the way of `pictures` of `prompt`; seeds run on from call to call."""
        sampling = self.sampling if guided else replace(self.sampling, cfg=1.0)
        points, _ = sample_trajectories(
            self.denoiser,
            self.denoiser.encode_prompt(prompt),
            self.denoiser.encode_prompt(""),
            trajectories=pictures,
            steps=sampling.steps,
            cfg=sampling.cfg,
            seed=sampling.seed + self._sampled,
            batch=sampling.batch,
            spacing=sampling.spacing,
            latent_shape=sampling.latent_shape,
            progress=progress,
        )
        self._sampled += pictures
        t = torch.tensor([point.t for point in points]).repeat_interleave(pictures)
        return t, torch.cat([point.x_t for point in points])

    def _some(self, states: tuple[Tensor, Tensor], count: int) -> tuple[Tensor, Tensor]:
        chosen = torch.randperm(len(states[0]), generator=self._random)[:count]
        return states[0][chosen], states[1][chosen]

    @torch.no_grad()
    def _eps(self, prompt: str, t: Tensor, x_t: Tensor, progress: Progress) -> Tensor:
        conditioning, chunks = self.denoiser.encode_prompt(prompt), []
        for some, x in zip(t.split(self.sampling.batch), x_t.split(self.sampling.batch), strict=True):
            chunks.append(self.denoiser.eps(x.to(self.denoiser.device), some, conditioning).cpu())
            progress("targets", len(chunks), -(-len(t) // self.sampling.batch))
        return torch.cat(chunks)

    def _erase_at(self, pair: Pair, states: tuple[Tensor, Tensor], progress: Progress) -> Tensor:
        """Add the goal of `pair` at `states`; the squared distances (mean over elements) of its two predictions."""
        t, x_t = states
        concept, base = self._eps(pair.concept, t, x_t, progress), self._eps(pair.base, t, x_t, progress)
        self._erase.setdefault(pair.concept, []).append((t, x_t, base - PUSH * (concept - base)))
        return (concept - base).double().square().flatten(1).mean(dim=1)

    def _keep_at(self, states: tuple[Tensor, Tensor], progress: Progress) -> None:
        """Each of `states` under one of the empty, base and kept prompts, by chance in equal parts."""
        t, x_t = states
        turn = torch.randperm(len(t), generator=self._random) % len(self._others)
        for number, prompt in enumerate(self._others):
            mine = turn == number
            if mine.any():
                self._kept.setdefault(prompt, []).append((t[mine], x_t[mine], self._eps(prompt, t[mine], x_t[mine], progress)))
