"""Where goals come from: states on the way of pictures, and what eps is to be there.

J is looked at on the way of the concept's own pictures, of its base prompt's, of pictures of nothing in particular (the empty
prompt's, without guidance), and, from the second round on, of those that the edited model paints. K at pictures of the kept prompts
under them and under the empty prompt, and at the states of J under the empty prompt, the base prompts and the kept ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .contexts import Pair
from .denoiser import Conditioning, Denoiser
from .goals import PUSH, Goals
from .progress import Progress, silent
from .schedule import Spacing
from .trajectory import sample_trajectories

STATES_OF_CONCEPT, STATES_OF_KEEP = 6, 6
"""States of J, and states of kept prompts' own pictures, for each trajectory of the concept."""


@dataclass(frozen=True)
class Sampling:
    """How states are sampled: `trajectories` says how many, all else as in trajectory.sample_trajectories."""

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
        states = max(1, STATES_OF_CONCEPT * trajectories // (3 * pairs))
        pictures, kept_pictures, free = max(1, trajectories // (2 * pairs)), max(1, trajectories // (2 * keep)), max(1, trajectories // 4)
        return cls(
            pictures=pictures,
            kept_pictures=kept_pictures,
            free_pictures=free,
            own=min(states, pictures * steps),
            free=min(states, free * steps),
            kept=min(max(1, STATES_OF_KEEP * trajectories // keep), kept_pictures * steps),
        )


States = tuple[Tensor, Tensor]
"""Timesteps [n] and latents [n, C, H, W] on the CPU."""


class GoalMaker:
    """Samples states with a model and collects the goals of one concept; `pairs` are its prompts, `keep` those that must stay."""

    def __init__(self, denoiser: Denoiser, pairs: Sequence[Pair], keep: Sequence[str], sampling: Sampling) -> None:
        self.denoiser, self.pairs, self.keep, self.sampling = denoiser, pairs, keep, sampling
        self.sizes = Sizes.of(sampling.trajectories, sampling.steps, len(pairs), len(keep))
        self._random = torch.Generator().manual_seed(sampling.seed)
        self._others = list(dict.fromkeys(["", *(pair.base for pair in pairs), *keep]))
        prompts = list(dict.fromkeys([*(pair.concept for pair in pairs), *self._others]))
        self._number = {prompt: number for number, prompt in enumerate(prompts)}
        self._encoded = [denoiser.encode_prompt(prompt) for prompt in prompts]
        self._samples: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        self._pictures = 0
        self._erase_unit = self._keep_unit = 0.0

    def first(self, progress: Progress = silent) -> Goals:
        """Goals at states of the unedited model."""
        sizes, prompts = self.sizes, self._prompts_of_concept()
        guided = [
            *(prompt for prompt in prompts for _ in range(sizes.pictures)),
            *(k for k in self.keep for _ in range(sizes.kept_pictures)),
        ]
        total = len(guided) + sizes.free_pictures

        def report(*_: object) -> None:
            progress("sampling for rounds", min(self._pictures, total), total)

        painted = self._paint(guided, report)
        free = self._paint([""] * sizes.free_pictures, report, guided=False)[""]
        erase: list[tuple[Pair, States]] = []
        shared: list[States] = []  # states of J, where what is kept is looked at as well
        for pair in self.pairs:
            for prompt in dict.fromkeys((pair.concept, pair.base)):
                chosen = self._some(painted[prompt], sizes.own)
                erase.append((pair, chosen))
                shared.append((chosen[0][::2], chosen[1][::2]))
            chosen = self._some(free, sizes.free)
            erase.append((pair, chosen))
            shared.append(chosen)
        self._erase_unit = self._erase_at(erase, report)
        self._keep_at(shared, report)
        self._keep_unit = self._keep_own({prompt: self._some(painted[prompt], sizes.kept) for prompt in self.keep}, report)
        return self._goals()

    def sampled_now(self, progress: Progress = silent) -> list[tuple[Pair, States]]:
        """States on the way of the concept's pictures as the model, edited by whoever calls, paints them now; for `again`."""
        concepts = list(dict.fromkeys(pair.concept for pair in self.pairs))
        painted = self._paint([prompt for prompt in concepts for _ in range(self.sizes.pictures)], progress)
        return [(pair, self._some(painted[pair.concept], self.sizes.own)) for pair in self.pairs]

    def again(self, sampled: Sequence[tuple[Pair, States]], progress: Progress = silent) -> Goals:
        """All goals so far and those at `sampled` states; the model must be unedited again."""
        self._erase_at(sampled, progress)
        self._keep_at([(t[::2], x_t[::2]) for _, (t, x_t) in sampled], progress)
        return self._goals()

    def _prompts_of_concept(self) -> list[str]:
        return list(dict.fromkeys(prompt for pair in self.pairs for prompt in (pair.concept, pair.base)))

    def _goals(self) -> Goals:
        prompt, t, x_t, eps, erases = (torch.cat(column) for column in zip(*self._samples, strict=True))
        return Goals(self._encoded, prompt, t, x_t, eps, erases, self._erase_unit, self._keep_unit)

    def _paint(self, prompts: Sequence[str], progress: Progress, guided: bool = True) -> dict[str, States]:
        """All (t, x_t) on the way of one picture for each of `prompts`, by prompt; seeds run on from call to call."""
        sampling, empty = self.sampling, self._encoded[self._number[""]]
        found: dict[str, list[States]] = {}
        for first in range(0, len(prompts), sampling.batch):
            some = prompts[first : first + sampling.batch]
            points, _ = sample_trajectories(
                self.denoiser,
                self._together([self._number[prompt] for prompt in some]),
                empty,
                trajectories=len(some),
                steps=sampling.steps,
                cfg=sampling.cfg if guided else 1.0,
                seed=sampling.seed + self._pictures,
                batch=len(some),
                spacing=sampling.spacing,
                latent_shape=sampling.latent_shape,
                progress=progress,
            )
            self._pictures += len(some)
            t = torch.tensor([point.t for point in points])
            for number, prompt in enumerate(some):
                found.setdefault(prompt, []).append((t, torch.stack([point.x_t[number] for point in points])))
        return {prompt: _joined(states) for prompt, states in found.items()}

    def _together(self, numbers: Sequence[int]) -> Conditioning:
        return self.denoiser.together([self._encoded[number] for number in numbers])

    def _some(self, states: States, count: int) -> States:
        chosen = torch.randperm(len(states[0]), generator=self._random)[:count]
        return states[0][chosen], states[1][chosen]

    @torch.no_grad()
    def _predict(self, asked: Iterable[tuple[str, States]], progress: Progress) -> tuple[Tensor, States, Tensor]:
        """(prompt numbers, states, eps) for states under prompts, all of `asked` one after the other."""
        asked = list(asked)
        number = torch.cat([torch.full((len(t),), self._number[prompt]) for prompt, (t, _) in asked])
        t, x_t = _joined([states for _, states in asked])
        batch, chunks = self.sampling.batch, []
        for some, times, x in zip(number.split(batch), t.split(batch), x_t.split(batch), strict=True):
            conditioning = self._together(some.tolist())
            chunks.append(self.denoiser.eps(x.to(self.denoiser.device), times, conditioning).cpu())
            progress("targets", len(chunks), -(-len(t) // batch))
        return number, (t, x_t), torch.cat(chunks)

    def _erase_at(self, wanted: Sequence[tuple[Pair, States]], progress: Progress) -> float:
        """Add goals of J; the mean square of the distance of the predictions of concept and base."""
        number, (t, x_t), concept = self._predict([(pair.concept, states) for pair, states in wanted], progress)
        base = self._predict([(pair.base, states) for pair, states in wanted], progress)[2]
        self._samples.append((number, t, x_t, base - PUSH * (concept - base), torch.ones(len(t), dtype=torch.bool)))
        return float((concept - base).double().square().mean())

    def _keep_at(self, shared: Sequence[States], progress: Progress) -> None:
        """Add goals of K: each of the states under one of the empty, base and kept prompts, by chance in equal parts."""
        t, x_t = _joined(shared)
        turn = torch.randperm(len(t), generator=self._random) % len(self._others)
        asked = [(prompt, (t[turn == i], x_t[turn == i])) for i, prompt in enumerate(self._others) if (turn == i).any()]
        number, (t, x_t), eps = self._predict(asked, progress)
        self._samples.append((number, t, x_t, eps, torch.zeros(len(t), dtype=torch.bool)))

    def _keep_own(self, own: dict[str, States], progress: Progress) -> float:
        """Add goals of K at the kept prompts' own states, some under the empty prompt; the mean square of what a prompt matters."""
        number, (t, x_t), eps = self._predict(own.items(), progress)
        empty = self._predict([("", (t, x_t))], progress)[2]
        self._samples.append((number, t, x_t, eps, torch.zeros(len(t), dtype=torch.bool)))
        nothing = torch.full((len(t[::4]),), self._number[""])
        self._samples.append((nothing, t[::4], x_t[::4], empty[::4], torch.zeros(len(nothing), dtype=torch.bool)))
        return float((eps - empty).double().square().mean())


def _joined(states: Sequence[States]) -> States:
    return torch.cat([t for t, _ in states]), torch.cat([x_t for _, x_t in states])
