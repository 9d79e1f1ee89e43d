"""The other methods against their formulas, on the real sandbox."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.erasing.task import task
from benchmarks.peers import METHODS, coar
from benchmarks.peers.changes import changed, restore, snapshot
from benchmarks.peers.concept_prune import ConceptPrune, second_matrices, skilled
from benchmarks.peers.esd import ESD, Prompts, negative_guidance, tuned_parameters
from benchmarks.peers.paper_cad import PaperCAD
from benchmarks.peers.random_weights import RandomWeights
from benchmarks.peers.rece import RECE, attack
from benchmarks.peers.uce import UCE, closed_form, key_value_layers, task_tokens
from cad_engine.attribution import attribution_scores
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import concept_objective
from cad_engine.concept_settings import ConceptSettings
from cad_engine.errors import CadError
from cad_engine.progress import silent
from cad_engine.trajectory import initial_noise

STAR = task("star", 0)


@pytest.fixture(scope="module")
def loaded() -> DiffusersDenoiser:
    return load_model("sandbox")


@pytest.fixture
def denoiser(loaded: DiffusersDenoiser) -> Iterator[DiffusersDenoiser]:
    """The sandbox, whose weights are put back after the test, which must leave nothing else behind."""
    before = snapshot(loaded.unet)
    yield loaded
    restore(loaded.unet, before)
    for name, parameter in loaded.unet.named_parameters():
        assert not parameter.requires_grad, name
        assert parameter.grad is None, name
    assert not any(module._forward_pre_hooks for module in loaded.unet.modules())


class Counter:
    """Forwards of a UNet, one a sample, and those of them that a backward pass needs."""

    def __init__(self, unet: nn.Module) -> None:
        self.forwards = self.with_gradient = 0

        def count(_: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:  # a function, which copies of the UNet share
            self.forwards += len(inputs[0])
            if output.sample.requires_grad:
                self.with_gradient += len(inputs[0])

        self.handle = unet.register_forward_hook(count)

    @property
    def evaluations(self) -> int:
        """A backward counts as two forwards."""
        return self.forwards + 2 * self.with_gradient


def is_key_or_value(parameter: str) -> bool:
    return parameter.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))


def least_squares(weight: Tensor, erased: Tensor, values: Tensor, kept: Tensor, lam: float) -> Tensor:
    """The minimiser of UCE's objective as one least-squares problem: each term is a block of rows."""
    near = lam**0.5 * torch.eye(weight.shape[1], dtype=torch.float64)
    rows = torch.cat([erased, kept, near])
    wanted = torch.cat([values, kept @ weight.T, near @ weight.T])
    return torch.linalg.lstsq(rows, wanted).solution.T


def test_uce_solves_its_least_squares_problem() -> None:
    generator = torch.Generator().manual_seed(0)
    weight, values = (torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((7, 12), (5, 7)))
    erased, kept = (torch.randn(rows, 12, generator=generator, dtype=torch.float64) for rows in (5, 20))
    torch.testing.assert_close(closed_form(weight, erased, values, kept, 0.3), least_squares(weight, erased, values, kept, 0.3))


@pytest.mark.parametrize("preserve", [False, True])
def test_uce_on_the_sandbox(denoiser: DiffusersDenoiser, preserve: bool) -> None:
    before = snapshot(denoiser.unet)
    outcome = UCE(preserve)(denoiser, STAR, silent)
    counts = changed(denoiser.unet, before)
    assert sorted(counts) == sorted(filter(is_key_or_value, before))
    assert outcome.weights == sum(counts.values())
    assert outcome.evaluations == 0
    # "a star" against "a shape": the third of 24 tokens and all after it.
    star, shape = (denoiser.encode_prompt(prompt).context[0].double()[2:] for prompt in ("a star", "a shape"))
    kept = [denoiser.encode_prompt(prompt).context[0].double() for prompt in ("", *(STAR.keep if preserve else ()))]
    for name, parameter in denoiser.unet.named_parameters():
        if name in counts:
            old = before[name].double()
            solution = least_squares(old, star, shape @ old.T, torch.cat(kept), UCE().lam)
            torch.testing.assert_close(parameter.double(), solution, rtol=1e-4, atol=1e-5)


def test_erased_tokens_become_those_as_far_from_the_end_of_the_text(denoiser: DiffusersDenoiser) -> None:
    def context(prompt: str) -> Tensor:
        return denoiser.encode_prompt(prompt).context[0].double()

    dotted = task("dotted", 0)  # "a shape in dotted style", 5 words, and "a shape", 2
    tokens = task_tokens(denoiser, dotted, preserve=True)
    torch.testing.assert_close(tokens.erased, context(dotted.prompt)[4:])
    torch.testing.assert_close(tokens.guide, context(dotted.base)[1:21])  # "a", "shape", end and padding
    torch.testing.assert_close(tokens.kept, torch.cat([context(prompt) for prompt in ("", *dotted.keep)]))
    with pytest.raises(CadError, match="'a shape' does not contain the concept 'star'"):
        task_tokens(denoiser, replace(STAR, prompt="a shape"), preserve=False)


def test_rece_finds_the_embedding_that_brings_the_concept_back(denoiser: DiffusersDenoiser) -> None:
    before = snapshot(denoiser.unet)
    layers = list(key_value_layers(denoiser).values())
    original = [layer.weight.detach().double().clone() for layer in layers]
    tokens = task_tokens(denoiser, STAR, preserve=True)

    def loss(found: Tensor, lam: float) -> Tensor:
        """sum_W || W c' - W_0 c ||^2 + lam || c' ||^2 over all tokens, with the matrices as they are now."""
        misses = [
            (found @ layer.weight.double().T - tokens.erased @ old.T).square().sum() for layer, old in zip(layers, original, strict=True)
        ]
        return torch.stack(misses).sum() + lam * found.square().sum()

    def slope(found: Tensor) -> Tensor:
        found = found.detach().requires_grad_()
        return torch.autograd.grad(loss(found, 0.1), found)[0]

    UCE()(denoiser, STAR, silent)
    found = attack([layer.weight.detach() for layer in layers], original, tokens.erased, 0.1)
    assert slope(found).norm() < 1e-8 * slope(torch.zeros_like(found)).norm()
    open_to_it = float(loss(found, 0))
    assert open_to_it < 0.5 * float(loss(tokens.erased, 0))  # the concept's own tokens no longer do it, these do
    restore(denoiser.unet, before)

    # Three rounds of repair close what UCE leaves open.
    outcome = RECE()(denoiser, STAR, silent)
    assert sorted(changed(denoiser.unet, before)) == sorted(filter(is_key_or_value, before))
    assert outcome.weights == sum(changed(denoiser.unet, before).values())
    again = attack([layer.weight.detach() for layer in layers], original, tokens.erased, 0.1)
    assert float(loss(again, 0)) > 1.2 * open_to_it


def test_rece_without_rounds_is_uce(denoiser: DiffusersDenoiser) -> None:
    before = snapshot(denoiser.unet)
    UCE()(denoiser, STAR, silent)
    after_uce = snapshot(denoiser.unet)
    restore(denoiser.unet, before)
    RECE(rounds=0)(denoiser, STAR, silent)
    assert not changed(denoiser.unet, after_uce)


@pytest.mark.parametrize("part", ["x", "u"])
def test_esd_without_iterations_changes_nothing(denoiser: DiffusersDenoiser, part: Any) -> None:
    before = snapshot(denoiser.unet)
    outcome = ESD(part, iterations=0)(denoiser, STAR, silent)
    assert not changed(denoiser.unet, before)
    assert (outcome.weights, outcome.evaluations) == (0, 0)


@pytest.mark.parametrize(("part", "matched", "learning_rate"), [("x", True, 3e-4), ("u", False, 3e-5)])
def test_esd_lowers_its_loss(denoiser: DiffusersDenoiser, part: Any, matched: bool, learning_rate: float) -> None:
    before = snapshot(denoiser.unet)
    esd = ESD(part, matched=matched, learning_rate=learning_rate, iterations=24, batch=4, steps=3)
    star, shape, empty = (denoiser.encode_prompt(prompt) for prompt in (STAR.prompt, STAR.base, ""))
    prompts = Prompts(star, empty, shape if matched else None)
    noise = initial_noise(12345, 6, denoiser.latent_shape)
    timesteps = denoiser.schedule.ddim_timesteps(3)
    points = [(t, esd.sample(denoiser, prompts, noise, timesteps[: number + 1])) for number, t in enumerate(timesteps)]
    with torch.no_grad():
        targets = []
        for t, x_t in points:
            at_star, at_shape, at_empty = (denoiser.eps(x_t, t, given) for given in (star, shape, empty))
            targets.append((at_shape if matched else at_empty) - esd.eta * (at_star - at_empty))
            torch.testing.assert_close(negative_guidance(denoiser, prompts, x_t, t, esd.eta), targets[-1], rtol=1e-4, atol=1e-5)

        def loss() -> float:
            errors = [(denoiser.eps(x_t, t, star) - target).square().mean() for (t, x_t), target in zip(points, targets, strict=True)]
            return float(torch.stack(errors).mean())

        start = loss()
    counter = Counter(denoiser.unet)
    outcome = esd(denoiser, STAR, silent)
    counter.handle.remove()
    with torch.no_grad():
        assert loss() < 0.9 * start  # on noise that it was not tuned on
    counts = changed(denoiser.unet, before)
    assert counts
    assert all((".attn2." in name) == (part == "x") for name in counts)
    assert outcome.weights == sum(counts.values())
    assert outcome.evaluations == counter.evaluations


def test_esd_interrupted_asks_for_no_gradients_any_more(denoiser: DiffusersDenoiser) -> None:
    def stop(stage: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # the fixture looks at what is left
        ESD("x", steps=2)(denoiser, STAR, stop)


def test_esd_parts_are_the_whole_unet(denoiser: DiffusersDenoiser) -> None:
    both = [parameter for part in ("x", "u") for parameter in tuned_parameters(denoiser, part)]
    assert sorted(map(id, both)) == sorted(map(id, denoiser.unet.parameters()))


def test_concept_prune_mask_is_that_of_a_plain_loop() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 40, generator=generator)
    target, base = torch.rand(40, generator=generator) * 9, torch.rand(40, generator=generator) * 9
    mask = skilled(weight, target, base, 0.2)
    for row in range(6):
        score = [abs(float(weight[row, j])) * float(target[j]) ** 0.5 for j in range(40)]
        top = sorted(range(40), key=lambda j: -score[j])[:8]
        assert mask[row].nonzero().flatten().tolist() == sorted(j for j in top if target[j] > base[j])


def test_concept_prune_on_the_sandbox(denoiser: DiffusersDenoiser) -> None:
    before = snapshot(denoiser.unet)
    prune = ConceptPrune(ratio=0.05, first=2, steps=10, trajectories=3)
    inputs: dict[str, list[Tensor]] = {}
    layers = second_matrices(denoiser)
    handles = [
        layer.register_forward_pre_hook(lambda _, given, name=name: inputs.setdefault(name, []).append(given[0]))
        for name, layer in layers.items()
    ]
    energies = list(prune.energies(denoiser, STAR.prompt, 0))
    for handle in handles:
        handle.remove()
    for name, seen in inputs.items():  # concept, empty, concept
        assert len(seen) == 3
        for energy, x in zip(energies, seen[::2], strict=True):
            torch.testing.assert_close(energy[name], x.reshape(-1, x.shape[-1]).norm(dim=0) ** 2)

    bases = list(prune.energies(denoiser, STAR.base, 0))
    counter = Counter(denoiser.unet)
    outcome = prune(denoiser, STAR, silent)
    counter.handle.remove()
    zeroed = 0
    for name, layer in layers.items():
        old = next(before[key] for key, parameter in denoiser.unet.named_parameters() if parameter is layer.weight)
        masks = [skilled(old, target[name], base[name], 0.05) for target, base in zip(energies, bases, strict=True)]
        expected = torch.where(masks[0] | masks[1], 0, old)
        assert torch.equal(layer.weight, expected)
        zeroed += int((expected != old).sum())
    counts = changed(denoiser.unet, before)
    assert all(name.endswith("ff.net.2.weight") for name in counts)
    assert outcome.weights == zeroed == sum(counts.values()) > 0
    assert outcome.evaluations == counter.evaluations


@pytest.mark.parametrize("matched", [False, True])
def test_paper_cad_zeroes_each_rows_highest_attributions(denoiser: DiffusersDenoiser, matched: bool) -> None:
    before = snapshot(denoiser.unet)
    cad = PaperCAD(ratio=0.1, matched=matched, trajectories=2, steps=2)
    settings = ConceptSettings("a star", base="a shape" if matched else "", trajectories=2, steps=2, batch=2)
    names = [name for name in denoiser.layers if ".ff." in name]
    scores, _ = attribution_scores(denoiser, concept_objective(denoiser, settings), names, batch=2)
    old = {name: denoiser.layers[name].weight.detach().clone() for name in names}
    counter = Counter(denoiser.unet)
    outcome = cad(denoiser, STAR, silent)
    counter.handle.remove()
    for name, score in scores.items():
        limit = score.sort(dim=1, descending=True).values[:, int(0.1 * score.shape[1]) - 1 : int(0.1 * score.shape[1])]
        expected = torch.where((score >= limit) & (score > 0), 0, old[name])
        assert torch.equal(denoiser.layers[name].weight, expected)
    assert outcome.weights == sum(changed(denoiser.unet, before).values())
    assert outcome.evaluations == counter.evaluations


def test_random_weights_are_as_many_in_the_same_layers(denoiser: DiffusersDenoiser) -> None:
    before = snapshot(denoiser.unet)
    method = ConceptPrune(ratio=0.05, first=1, steps=10, trajectories=2)
    of_method = method(denoiser, STAR, silent)
    wanted, pruned = changed(denoiser.unet, before), snapshot(denoiser.unet)
    restore(denoiser.unet, before)
    outcome = RandomWeights(method)(denoiser, STAR, silent)
    assert outcome == of_method
    assert changed(denoiser.unet, before) == wanted
    overlap = 0
    for name, parameter in denoiser.unet.named_parameters():
        differs = parameter != before[name]
        assert not parameter[differs].any()
        overlap += int((differs & (pruned[name] != before[name])).sum())
    assert overlap < 0.3 * outcome.weights  # by chance, not the method's own
    drawn = snapshot(denoiser.unet)
    for seed in (0, 1):
        restore(denoiser.unet, before)
        RandomWeights(method)(denoiser, replace(STAR, seed=seed), silent)
        assert bool(changed(denoiser.unet, drawn)) == (seed == 1)


def test_the_table_of_methods() -> None:
    names = ["uce", "uce + preserve", "rece", "esd-x", "esd-u", "conceptprune", "cad (paper)", "random weights"]
    assert list(METHODS) == names
    assert METHODS["random weights"] == RandomWeights(METHODS["cad (paper)"])


def test_coar_recovers_a_linear_outcome() -> None:
    masks = coar.random_masks(200, 30, 0.2, seed=3)
    assert masks.shape == (200, 30)
    assert set(masks.sum(axis=1)) == {6}
    true = np.random.default_rng(0).normal(size=30)
    masses = {f"layer {number}": -value / 0.1 for number, value in enumerate(true)}
    found = coar.compare(masses, masks, masks @ true, 0.1)
    assert found.held_out == pytest.approx(1)
    assert found.claimed_held_out == pytest.approx(1)
    # With a fixed number of layers in each mask a constant can move into the coefficients: correlations do not see it.
    assert found.pearson == pytest.approx(1)
    assert found.spearman == pytest.approx(1)
    wrong = coar.compare({name: float(number) for number, name in enumerate(masses)}, masks, masks @ true, 0.1)
    assert abs(wrong.pearson) < 0.6
    assert wrong.claimed_held_out < 0


def test_ranks_share_their_mean() -> None:
    assert coar.ranks(np.array([3.0, 1.0, 3.0, 7.0])).tolist() == [1.5, 0, 1.5, 3]


def test_ablated_layers_change_the_objective_as_attribution_says(denoiser: DiffusersDenoiser) -> None:
    before = snapshot(denoiser.unet)
    objective = concept_objective(denoiser, ConceptSettings("a star", base="a shape", trajectories=2, steps=3, batch=2))
    names = list(denoiser.layers)[2:40:4]
    layers = {name: denoiser.layers[name] for name in names}
    scores, _ = attribution_scores(denoiser, objective, names, batch=2)
    masses = np.array([float(score.double().sum()) for score in scores.values()])
    masks = np.eye(len(names), dtype=bool)
    effects, opposite = (coar.ablation_effects(denoiser, objective, layers, masks, delta) for delta in (0.01, -0.01))
    assert not changed(denoiser.unet, before)
    # Scaled down and up by as much: the second order drops out of the difference.
    np.testing.assert_allclose((effects - opposite) / 2, -0.01 * masses, atol=0.03 * np.abs(0.01 * masses).max())
    # One of them by hand.
    unedited = objective.value(denoiser)
    with torch.no_grad():
        layers[names[3]].weight.mul_(0.99)
    assert effects[3] == pytest.approx(objective.value(denoiser) - unedited, rel=1e-2)


def test_coar_interrupted_puts_the_weights_back(denoiser: DiffusersDenoiser) -> None:
    before = snapshot(denoiser.unet)
    objective = concept_objective(denoiser, ConceptSettings("a star", base="a shape", trajectories=1, steps=1))

    def stop(stage: str, done: int, total: int) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        coar.ablation_effects(denoiser, objective, denoiser.layers, np.ones((2, len(denoiser.layers)), dtype=bool), 0.1, progress=stop)
    assert not changed(denoiser.unet, before)


def test_coar_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "coar.json"
    options = ["--concept", "red", "--masks", "10", "--trajectories", "1", "--delta", "0.1", "--json", str(path)]
    monkeypatch.setattr(sys, "argv", ["coar", *options])
    coar.main()
    found = json.loads(path.read_text())
    assert (found["concept"], found["masks"]) == ("red", 10)
    (row,) = found["rows"]
    assert len(row["coefficients"]) == len(row["claims"]) > 100
    assert f"| red | 0.9 | {row['pearson']:.3f} |" in capsys.readouterr().out
