"""How few predictions give the attribution of many: agreement with a many-sample attribution of the sandbox, and what it costs.

    python -m benchmarks.agreement --json agreement.json
    python -m benchmarks.agreement --concept "a star" --base "" --seeds 1

The many samples are 150 pictures of 50 steps, every fifth state of each. Compared are the points that the paper's reference code looks at
(50 timesteps, each of its own picture, which is sampled as far as that) and this project's.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.erasing.settings import machine
from cad_engine.attribution import attribution_scores
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.components import choose_layers
from cad_engine.cost import BACKWARD
from cad_engine.objective import Objective, Target
from cad_engine.schedule import Spacing
from cad_engine.trajectory import Sampling, sample_trajectories
from cad_engine.while_sampling import Prompts, forwards_each, scores_while_sampling

CFG, RATIO = 3.0, 0.01
MANY_PICTURES, MANY_STEPS, EVERY, MANY_SEED = 150, 50, 5, 90_000
CONCEPTS = (("a star", ""), ("a shape in dotted style", ""), ("a red star", "a star"))
OURS: tuple[tuple[int, int, Spacing], ...] = (
    (20, 10, "trailing"),
    (20, 10, "centred"),
    (20, 5, "centred"),
    (20, 4, "centred"),
    (16, 4, "centred"),
    (10, 4, "centred"),
)
"""Pictures, steps and spacing."""


@dataclass(frozen=True)
class Row:
    """What one way of looking costs, and how well it agrees; means over the seeds.

    Attributes:
        evaluations: in units of one forward of the UNet, a backward counted as two.
        row_overlap: part of the weights that the paper's rule selects at 1 % from many samples which it selects here, too.
        global_overlap: the same for the 1 % with the highest scores.
        rank: Spearman's correlation of all scores.
    """

    concept: str
    base: str
    way: str
    predictions: int
    backward: int
    evaluations: int
    row_overlap: float
    global_overlap: float
    rank: float


class Agreement:
    """Ways of looking at one concept of `denoiser`, against many samples."""

    def __init__(self, denoiser: DiffusersDenoiser, concept: str, base: str) -> None:
        self.denoiser, self.concept, self.base = denoiser, concept, base
        self.names = choose_layers(denoiser.layers, ["ff"])
        wanted = {number: range(number % EVERY, MANY_STEPS, EVERY) for number in range(MANY_PICTURES)}
        self.many = self._at(wanted, MANY_SEED)

    def _at(self, wanted: Mapping[int, range], seed: int) -> dict[str, Tensor]:
        """Scores at the states before the `wanted` steps of each picture."""
        concept, empty = self.denoiser.encode_prompt(self.concept), self.denoiser.encode_prompt("")
        points, _ = sample_trajectories(
            self.denoiser,
            concept,
            empty,
            trajectories=len(wanted),
            steps=MANY_STEPS,
            cfg=CFG,
            seed=seed,
            batch=50,
            spacing="leading",
        )
        targets = []
        for step, point in enumerate(points):
            which = [number for number, steps in wanted.items() if step in steps]
            x_t, base = point.x_t[which], point.eps_uncond[which]  # type: ignore[index]
            if self.base:
                with torch.no_grad():
                    base = self.denoiser.eps(x_t, point.t, self.denoiser.encode_prompt(self.base))
            targets.append(Target(point.t, x_t, base))
        return attribution_scores(self.denoiser, Objective("erase", concept, targets), self.names, batch=50)[0]

    def reference(self, seeds: int) -> Row:
        """The reference's points: one of each of 50 pictures, before step 0, 1, .. 49."""
        steps = {number: range(number, number + 1) for number in range(MANY_STEPS)}
        found = [self._at(steps, seed * 1000) for seed in range(seeds)]
        # Each picture is sampled through its point's step with guidance; there, concept and base are predicted once more, and both
        # differentiated.
        predictions = sum(2 * (step + 1) for step in range(MANY_STEPS)) + 2 * MANY_STEPS
        return self._row("the reference's points", predictions, 2 * MANY_STEPS, found)

    def ours(self, pictures: int, steps: int, spacing: Spacing, seeds: int) -> Row:
        """This project's: every state of few pictures of few steps."""
        encode = self.denoiser.encode_prompt
        prompts = Prompts(encode(self.concept), encode(self.base) if self.base else None, None, encode(""))
        sampling = Sampling(pictures, steps, CFG, 0, 20, spacing, self.denoiser.latent_shape)
        found = [scores_while_sampling(self.denoiser, prompts, self.names, replace(sampling, seed=seed * 1000))[0] for seed in range(seeds)]
        lead = self.denoiser.schedule.lead(steps, spacing) is not None
        predictions = pictures * (forwards_each(steps, CFG, base=bool(self.base), sampled=False, lead=lead) + steps)
        return self._row(f"{pictures} pictures of {steps} steps, {spacing}", predictions, pictures * steps, found)

    def _row(self, way: str, predictions: int, backward: int, found: list[dict[str, Tensor]]) -> Row:
        values = np.mean([self.of(scores) for scores in found], axis=0).round(3).tolist()
        return Row(self.concept, self.base, way, predictions, backward, predictions + (BACKWARD - 1) * backward, *values)

    def of(self, scores: Mapping[str, Tensor]) -> tuple[float, float, float]:
        """Row overlap, global overlap and rank of `scores`, see Row."""
        ours, many = (torch.cat([each[name].flatten() for name in self.names]) for each in (scores, self.many))
        rows = [torch.cat([_of_rows(each[name]).flatten() for name in self.names]) for each in (scores, self.many)]
        tops = [each >= each.topk(int(RATIO * len(each))).values[-1] for each in (ours, many)]
        ranks = np.stack([each.argsort().argsort().numpy() for each in (ours, many)])
        shared = [float((one & other).sum() / other.sum()) for one, other in (rows, tops)]
        return shared[0], shared[1], float(np.corrcoef(ranks)[0, 1])


def _of_rows(scores: Tensor) -> Tensor:
    """Where the paper's rule selects: the highest positive scores of each row."""
    top = scores.topk(max(1, int(RATIO * scores.shape[1])), dim=1)
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, top.indices, top.values > 0)


def main() -> None:
    """Measure what the command line asks for and print it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.agreement", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--concept", help="only this; default three")
    parser.add_argument("--base", default="")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    denoiser, rows = load_model("sandbox"), []
    for concept, base in CONCEPTS if options.concept is None else ((options.concept, options.base),):
        agreement = Agreement(denoiser, concept, base)
        print(f"{concept!r} against {base!r}: evaluations, row overlap, global overlap, rank", flush=True)
        for row in (agreement.reference(options.seeds), *(agreement.ours(*way, options.seeds) for way in OURS)):
            print(f"  {row.way:36} {row.evaluations:5} {row.row_overlap:.3f} {row.global_overlap:.3f} {row.rank:.3f}", flush=True)
            rows.append(asdict(row))
    if options.json is not None:
        options.json.write_text(json.dumps({"rows": rows, "machine": machine()}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
