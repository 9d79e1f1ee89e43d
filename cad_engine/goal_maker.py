"""Where goals come from: states on the way of pictures, and what eps is to be there.

J is looked at on the way of the concept's own pictures, of its base prompt's, of pictures of nothing in particular (the empty
prompt's, without guidance), and, from the second round on, of those that the edited model paints. K at pictures of the kept prompts
under them and under the empty prompt, and at the states of J under the empty prompt, the base prompts and the kept ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from .contexts import Pair
from .denoiser import Conditioning, Denoiser
from .goals import Goals
from .plan import Picture, Plan, in_batches
from .progress import Progress, silent
from .push import push
from .trajectory import Sampling, guided_eps, initial_noise, led_in

States = tuple[Tensor, Tensor]
"""Timesteps [n] and latents [n, C, H, W] on the CPU."""


class GoalMaker:
    """Samples states with a model and collects the goals of one concept; `pairs` are its prompts, `keep` those that must stay."""

    def __init__(self, denoiser: Denoiser, pairs: Sequence[Pair], keep: Sequence[str], sampling: Sampling) -> None:
        self.denoiser, self.pairs, self.keep, self.sampling = denoiser, pairs, keep, sampling
        self.plan = Plan(pairs, keep, sampling.trajectories, sampling.steps, sampling.seed)
        self._random = torch.Generator().manual_seed(sampling.seed)
        self._others = list(dict.fromkeys(["", *(pair.base for pair in pairs), *keep]))
        prompts = list(dict.fromkeys([*(pair.concept for pair in pairs), *self._others]))
        self._number = {prompt: number for number, prompt in enumerate(prompts)}
        self._encoded = [denoiser.encode_prompt(prompt) for prompt in prompts]
        self._samples: list[tuple[Tensor, Tensor, Tensor, Tensor, Tensor]] = []
        self._pictures = 0
        self._erase_unit = self._keep_unit = self._push = 0.0

    def first(self, progress: Progress = silent) -> Goals:
        """Goals at states of the unedited model."""
        plan = self.plan.first()
        pictures = sum(map(len, plan.guided)) + len(plan.free)

        def report(*_: object) -> None:
            progress("sampling for rounds", min(self._pictures, pictures), pictures)

        painted = self._paint(plan.guided, report)
        free = _joined(self._paint([plan.free], report, guided=False))
        own = [(pair, states) for (pair, _), states in zip(plan.own, painted, strict=False)]
        own += [(pair, self._some(free, self.plan.sizes.free)) for pair in self.pairs]
        of_concept = [pictures[0].prompt == pair.concept for pair, pictures in plan.own for picture in pictures for _ in picture.steps]
        self._erase_unit = self._erase_at(own, report, torch.tensor(of_concept))
        # What is kept is looked at at half of the states of J as well.
        self._keep_at([(t[::2], x_t[::2]) for _, (t, x_t) in own], report)
        self._keep_unit = self._keep_own(dict(zip(self.keep, painted[len(plan.own) :], strict=True)), report)
        return self._goals()

    def sampled_now(self, progress: Progress = silent) -> list[tuple[Pair, States]]:
        """States on the way of the concept's pictures as the model, edited by whoever calls, paints them now; for `again`."""
        planned = self.plan.again()
        painted = self._paint([pictures for _, pictures in planned], progress)
        return [(pair, states) for (pair, _), states in zip(planned, painted, strict=True)]

    def again(self, sampled: Sequence[tuple[Pair, States]], progress: Progress = silent) -> Goals:
        """All goals so far and those at `sampled` states; the model must be unedited again."""
        self._erase_at(sampled, progress)
        self._keep_at([(t[::2], x_t[::2]) for _, (t, x_t) in sampled], progress)
        return self._goals()

    def _goals(self) -> Goals:
        prompt, t, x_t, eps, erases = (torch.cat(column) for column in zip(*self._samples, strict=True))
        return Goals(self._encoded, prompt, t, x_t, eps, erases, self._erase_unit, self._keep_unit, self._push)

    @torch.no_grad()
    def _paint(self, asked: Sequence[Sequence[Picture]], progress: Progress, guided: bool = True) -> list[States]:
        """The states that are wanted of each group of pictures; seeds run on from call to call."""
        sampling, denoiser, empty = self.sampling, self.denoiser, self._encoded[self._number[""]]
        pictures = [picture for group in asked for picture in group]
        noise = initial_noise(sampling.seed + self._pictures, len(pictures), sampling.latent_shape)
        times = denoiser.schedule.ddim_timesteps(sampling.steps, sampling.spacing)
        lead, cfg = denoiser.schedule.lead(sampling.steps, sampling.spacing), sampling.cfg if guided else 1.0
        found: list[list[Tensor]] = [[] for _ in pictures]
        for some in in_batches(pictures, sampling.batch):
            conditioning = self._together([self._number[pictures[number].prompt] for number in some])
            x = led_in(denoiser, noise[some].to(denoiser.device), lead, times[0], conditioning)
            for step in range(pictures[some[-1]].steps_made + 1):
                for place, number in enumerate(some):
                    if step in pictures[number].steps:
                        found[number].append(x[place].cpu())
                if step < pictures[some[-1]].steps_made:
                    eps, _ = guided_eps(denoiser, x, times[step], conditioning, empty, cfg)
                    x = denoiser.schedule.ddim_step(x, eps, times[step], times[step + 1])
                progress("painting", step, sampling.steps)
            self._pictures += len(some)
        states = iter([(torch.tensor([times[step] for step in one.steps]), torch.stack(x)) for one, x in zip(pictures, found, strict=True)])
        return [_joined([next(states) for _ in group]) for group in asked]

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

    def _erase_at(self, wanted: Sequence[tuple[Pair, States]], progress: Progress, of_concept: Tensor | None = None) -> float:
        """Add goals of J; the mean square of the distance of the predictions of concept and base.

        With `of_concept`, which of the first states are on the way of the concept's pictures and which on the base's, the push is found.
        """
        number, (t, x_t), concept = self._predict([(pair.concept, states) for pair, states in wanted], progress)
        base = self._predict([(pair.base, states) for pair, states in wanted], progress)[2]
        apart = (concept - base).double().square().flatten(1).mean(dim=1)
        if of_concept is not None:
            self._push = push(apart[: len(of_concept)], of_concept)
        self._samples.append((number, t, x_t, base - self._push * (concept - base), torch.ones(len(t), dtype=torch.bool)))
        return float(apart.mean())

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
