"""A Stable Diffusion 1.5 UNet of full size, random weights: all the way round within an ordinary computer's memory."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from diffusers import UNet2DConditionModel

from cad_engine.attribution import attribution_scores, reduce_scores
from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.checkpoints.components import Components
from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.components import choose_layers
from cad_engine.edit import applied
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.erasure import edit_from_attribution
from cad_engine.objective import erase_objective
from cad_engine.schedule import NoiseSchedule
from cad_engine.trajectory import sample_trajectories


@pytest.mark.slow
def test_stable_diffusion_15(tmp_path: Path) -> None:
    torch.manual_seed(0)
    unet = UNet2DConditionModel(cross_attention_dim=768)  # diffusers' defaults are Stable Diffusion 1.x
    parts = Components("sd1", "epsilon", NoiseSchedule.scaled_linear(), unet, None, (), ())
    denoiser = DiffusersDenoiser(parts.pipeline(), "sd1", "epsilon", parts.schedule, "random SD 1.5")
    concept, empty = (PromptConditioning(torch.randn(1, 77, 768), None) for _ in range(2))
    names = choose_layers(denoiser.layers, ["ff"])
    assert len(names) == 32
    # A quarter of the usual picture's side: memory and shapes of the weights are what is tested.
    points, _ = sample_trajectories(denoiser, concept, empty, trajectories=1, steps=1, latent_shape=(4, 16, 16))
    objective = erase_objective(denoiser, concept, None, points)
    scores, mass = attribution_scores(denoiser, objective, names, checkpointing=True)
    attribution = reduce_scores(scores, mass, [point.t for point in points], {"objective": "erase", "concept": "random"})
    del scores
    gc.collect()
    assert attribution.weights_total == 148_684_800

    save_attribution(tmp_path / "a.safetensors", attribution)
    assert (tmp_path / "a.safetensors").stat().st_size <= 40 * 2**20
    loaded = load_attribution(tmp_path / "a.safetensors")
    edit = edit_from_attribution(loaded, 0.001, "row")
    # floor(0.001 * in) is 1 for rows of 1280, 2 for 2560, 5 for 5120, and 0 below 1000: what the paper's rule can take at most.
    assert 0 < len(edit) <= 107_840
    save_edit(tmp_path / "e.safetensors", edit)
    assert (tmp_path / "e.safetensors").stat().st_size <= 2**20

    weights = {name: denoiser.layers[name].weight for name in names}
    some = names[-1]
    before = {name: weights[name].sum(dtype=torch.float64) for name in names}
    first = weights[some].clone()
    eps = denoiser.eps(points[0].x_t, points[0].t, concept)
    with applied(load_edit(tmp_path / "e.safetensors"), weights):
        assert not torch.equal(denoiser.eps(points[0].x_t, points[0].t, concept), eps)
    assert torch.equal(denoiser.eps(points[0].x_t, points[0].t, concept), eps)
    assert torch.equal(weights[some], first)
    assert all(torch.equal(weights[name].sum(dtype=torch.float64), before[name]) for name in names)
