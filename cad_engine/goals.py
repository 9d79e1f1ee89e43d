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

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .contexts import Pair
from .denoiser import Conditioning, Denoiser
from .progress import Progress, silent
from .schedule import Spacing
from .trajectory import sample_trajectories

PUSH = 1.0
"""How far beyond the base prompt's prediction the target of J lies, in distances of the concept's from it."""
KEEP_WEIGHT = 4.0
"""lambda: what a change of K counts against one of J, each in its unit."""
STATES_OF_CONCEPT, STATES_OF_KEEP = 6, 6
"""States of J, and states of kept prompts' own pictures, for each trajectory of the concept."""


@dataclass(frozen=True)
class Batch:
    """Some samples of goals, to be computed together.

    Attributes:
        t, x_t, eps: timesteps [B], latents [B, C, H, W] and what eps is to be there.
        conditioning: of all of them, sample by sample.
        weight: [B], of each sample's squared error (summed over a latent's elements) in L.
        erases: [B], True where it belongs to J and False where it belongs to K.
    """

    t: Tensor
    x_t: Tensor
    eps: Tensor
    conditioning: Conditioning
    weight: Tensor
    erases: Tensor


@dataclass(frozen=True)
class Goals:
    """L as a function of the model.

    Attributes:
        conditionings: of every prompt that occurs.
        prompt: [N] int64, which of them each sample is predicted under.
        t, x_t, eps: [N], [N, C, H, W] on the CPU: where eps is asked for, and what it is to be.
        erases: [N], True for samples of J, False for those of K.
        erase_unit, keep_unit: J_0 and K_0.
    """

    conditionings: Sequence[Conditioning]
    prompt: Tensor
    t: Tensor
    x_t: Tensor
    eps: Tensor
    erases: Tensor
    erase_unit: float
    keep_unit: float

    def __len__(self) -> int:
        return len(self.t)

    @property
    def loss_at_start(self) -> float:
        """J / J_0 of the unedited model, known without looking: the whole way to the target and as far beyond the base."""
        return (1 + PUSH) ** 2

    @property
    def loss_of_base(self) -> float:
        """J / J_0 of a model that predicts for the concept what it predicts for the base prompt."""
        return PUSH**2

    def weights(self) -> Tensor:
        """[N] float64, the weight in L of each sample's squared error, summed over a latent's elements."""
        erase, keep = int(self.erases.sum()), int((~self.erases).sum())
        elements = self.eps[0].numel()
        of_erase, of_keep = 1 / (max(erase, 1) * self.erase_unit * elements), KEEP_WEIGHT / (max(keep, 1) * self.keep_unit * elements)
        weights = torch.full((len(self),), of_keep, dtype=torch.float64)
        weights[self.erases] = of_erase
        return weights

    def batches(self, denoiser: Denoiser, batch: int, only_erase: bool = False) -> Iterator[Batch]:
        """All samples (or those of J alone) in their order, `batch` together, each under its own prompt."""
        weights = self.weights()
        samples = self.erases.nonzero().flatten() if only_erase else torch.arange(len(self))
        for which in samples.split(batch):
            conditioning = denoiser.together([self.conditionings[number] for number in self.prompt[which].tolist()])
            yield Batch(self.t[which], self.x_t[which], self.eps[which], conditioning, weights[which], self.erases[which])

    @staticmethod
    def loss(values: tuple[float, float]) -> float:
        """L of (J / J_0, K / K_0)."""
        return values[0] + KEEP_WEIGHT * values[1]

    @torch.no_grad()
    def values(self, denoiser: Denoiser, *, batch: int = 4, progress: Progress = silent) -> tuple[float, float]:
        """(J / J_0, K / K_0) of the model as it is now; forwards only, summed in float64."""
        values, done = torch.zeros(2, dtype=torch.float64), 0
        for part in self.batches(denoiser, batch):
            output = denoiser.eps(part.x_t.to(denoiser.device), part.t, part.conditioning)
            errors = (output.cpu() - part.eps).double().square().flatten(1).sum(dim=1) * part.weight
            values += torch.stack([errors[part.erases].sum(), errors[~part.erases].sum() / KEEP_WEIGHT])
            done += len(part.t)
            progress("values", done, len(self))
        return float(values[0]), float(values[1])


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
