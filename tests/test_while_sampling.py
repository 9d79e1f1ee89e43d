"""Attribution on top of sampling is that of sampling first and looking at every point again."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest
import torch
from torch import Tensor

from cad_engine.attribution import attribution_scores
from cad_engine.components import choose_layers
from cad_engine.denoiser import Denoiser
from cad_engine.errors import CadError
from cad_engine.objective import erase_objective
from cad_engine.shared_sampling import at_work, share
from cad_engine.trajectory import Sampling, antithetic_noise, initial_noise, sample_trajectories
from cad_engine.while_sampling import Prompts, forwards_each, scores_while_sampling
from tests.test_attribution import assert_close
from tests.tiny_models import FAMILIES, assert_unchanged, conditioning, snapshot, tiny_denoiser

SAMPLING = Sampling(trajectories=3, steps=3, cfg=3.0, seed=4, batch=2, spacing="centred", latent_shape=(4, 8, 8))


def counted(denoiser: Denoiser) -> dict[bool, int]:
    """Predictions that `denoiser` makes from now on, by whether they are differentiated."""
    made, eps = {False: 0, True: 0}, denoiser.eps

    def counting(x_t: Tensor, t: int | Tensor, c: object) -> Tensor:
        made[torch.is_grad_enabled()] += len(x_t)
        return eps(x_t, t, c)

    denoiser.eps = counting  # type: ignore[method-assign]
    return made


@pytest.mark.parametrize("cfg", [3.0, 1.0])
@pytest.mark.parametrize("sampled", [False, True])
@pytest.mark.parametrize("base", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_it_is_the_attribution_at_every_point_of_the_trajectories(family: str, base: bool, sampled: bool, cfg: float) -> None:
    denoiser = tiny_denoiser(family)
    concept, of_base, other, empty = (conditioning(family, number) for number in range(4))
    before, made = snapshot(denoiser), counted(denoiser)
    names = choose_layers(denoiser.layers, ["ff", "attention"])
    prompts = Prompts(concept, of_base if base else None, other if sampled else None, empty)
    ours, mass, timesteps = scores_while_sampling(denoiser, prompts, names, replace(SAMPLING, cfg=cfg))
    assert_unchanged(denoiser, before)
    assert made == {False: 3 * forwards_each(3, cfg, base=base, sampled=sampled, lead=True), True: 9}

    points, _ = sample_trajectories(denoiser, other if sampled else concept, empty, antithetic=True, **{**asdict(SAMPLING), "cfg": cfg})
    objective = erase_objective(denoiser, concept, of_base if base else empty, points)
    scores, expected_mass = attribution_scores(denoiser, objective, names, batch=2)
    assert timesteps == [point.t for point in points]
    assert_close(ours, scores, 1e-5)  # initial noise and points are float32
    assert_close(mass, expected_mass, 1e-5)


def test_the_cheapest_case_takes_two_predictions_a_step() -> None:
    assert forwards_each(10, 3.0, base=False, sampled=False, lead=False) == 10  # and ten that are differentiated
    assert forwards_each(10, 3.0, base=True, sampled=False, lead=False) == 10 + 9
    assert forwards_each(10, 1.0, base=True, sampled=False, lead=False) == 10
    assert forwards_each(10, 3.0, base=False, sampled=False, lead=True) == 1 + 10


def test_antithetic_noise_comes_in_pairs_that_cancel() -> None:
    shape = (4, 8, 8)
    pairs, single = antithetic_noise(3, range(5), shape), initial_noise(3, 3, shape)
    assert torch.equal(pairs[::2], single)
    assert torch.equal(pairs[1::2], -single[:2])
    assert torch.equal(antithetic_noise(3, range(1, 4), shape), pairs[1:4])


def test_a_step_leads_from_pure_noise_to_centred_timesteps() -> None:
    denoiser = tiny_denoiser()
    schedule, (concept, empty) = denoiser.schedule, (conditioning("sd1", number) for number in (0, 3))
    points, _ = sample_trajectories(denoiser, concept, empty, **asdict(SAMPLING))
    noise = initial_noise(SAMPLING.seed, SAMPLING.trajectories, SAMPLING.latent_shape)
    last = len(schedule) - 1
    expected = schedule.ddim_step(noise, denoiser.eps(noise, last, concept).detach(), last, points[0].t)
    torch.testing.assert_close(points[0].x_t, expected)
    trailing, _ = sample_trajectories(denoiser, concept, empty, **{**asdict(SAMPLING), "spacing": "trailing"})
    assert torch.equal(trailing[0].x_t, noise)
    assert trailing[0].t == last


def test_shares_of_the_trajectories_add_up_to_all() -> None:
    denoiser = tiny_denoiser()
    prompts = Prompts(conditioning("sd1", 1), None, None, conditioning("sd1", 2))
    names = choose_layers(denoiser.layers, ["ff"])
    sampling = replace(SAMPLING, trajectories=5)
    whole, whole_mass, _ = scores_while_sampling(denoiser, prompts, names, sampling)
    for size in (1, 2, 3, 4):
        shares = [share(5, sampling.batch, rank, size) for rank in range(size)]
        assert [i for some in shares for i in some] == list(range(5))
        parts = [scores_while_sampling(denoiser, prompts, names, sampling, only=some) for some in shares]
        assert_close({name: sum(part[0][name] for part in parts) for name in names}, whole, 1e-12)
        assert_close({name: sum(part[1][name] for part in parts) for name in names}, whole_mass, 1e-12)


def test_shares_are_whole_batches_and_nearly_alike() -> None:
    for trajectories, batch, size in ((20, 4, 2), (20, 4, 8), (1000, 7, 3), (3, 8, 2)):
        shares = [share(trajectories, batch, rank, size) for rank in range(size)]
        assert [i for some in shares for i in some] == list(range(trajectories))
        assert all(some.start % batch == 0 for some in shares if some)
        batches = [-(-len(some) // batch) for some in shares]
        assert max(batches) - min(batches) <= 1
        assert sum(map(bool, shares)) == at_work(trajectories, batch, size)


def test_an_interruption_leaves_the_model_as_it_was() -> None:
    denoiser = tiny_denoiser()
    before, x_t = snapshot(denoiser), torch.randn(1, *denoiser.latent_shape, dtype=torch.float64)
    empty = conditioning("sd1", 2)
    plain = denoiser.eps(x_t, 10, empty)

    def stop(stage: str, done: int, total: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    prompts = Prompts(conditioning("sd1", 1), None, None, empty)
    names = choose_layers(denoiser.layers, ["ff"])
    with pytest.raises(KeyboardInterrupt):
        scores_while_sampling(denoiser, prompts, names, SAMPLING, progress=stop)
    assert_unchanged(denoiser, before)
    assert torch.equal(denoiser.eps(x_t, 10, empty), plain)


def test_an_overflow_is_told() -> None:
    denoiser = tiny_denoiser(dtype=torch.float32)
    layer = "diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.weight"
    with torch.no_grad():
        denoiser.layers[layer].weight.fill_(float("inf"))
    prompts = Prompts(conditioning("sd1", 1, torch.float32), None, None, conditioning("sd1", 2, torch.float32))
    with pytest.raises(CadError, match="not finite"):
        scores_while_sampling(denoiser, prompts, [layer], SAMPLING)
