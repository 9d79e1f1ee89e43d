"""Single-file checkpoints: what is loaded computes exactly what the model that was written computes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.checkpoints.load import load_model
from cad_engine.schedule import NoiseSchedule

from .tiny_checkpoints import Tiny, same

PROMPT = "a photo of a cat, by Van Gogh"
BLANK = torch.tensor([0.8223, -0.6876, 0.6364, 0.1380]).reshape(1, 4, 1, 1)


Denoisers = dict[str, DiffusersDenoiser]


@pytest.fixture(scope="module")
def denoisers(files: dict[str, Path]) -> Denoisers:
    return {name: load_model(path) for name, path in files.items()}


def latents(seed: int = 0, batch: int = 2) -> Tensor:
    return torch.randn(batch, 4, 8, 16, generator=torch.Generator().manual_seed(seed))


def raw_output(tiny: Tiny, x: Tensor, t: Tensor, context: Tensor, pooled: Tensor | None = None) -> Tensor:
    """The diffusers UNet called by hand; pictures are twice the size of the tiny autoencoder's latents."""
    extra = None
    if pooled is not None:
        ids = torch.tensor([[16.0, 32.0, 0.0, 0.0, 16.0, 32.0]]).expand(len(x), -1)
        extra = {"text_embeds": pooled.expand(len(x), -1), "time_ids": ids}
    with torch.no_grad():
        return tiny.unet(x, t, context.expand(len(x), -1, -1), added_cond_kwargs=extra).sample


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl"])
def test_eps_and_prompt_are_those_of_the_model_that_was_written(name: str, tiny: dict[str, Tiny], denoisers: Denoisers) -> None:
    denoiser, pipeline = denoisers[name], tiny[name].pipeline()
    conditioning = denoiser.encode_prompt(PROMPT)
    with torch.no_grad():
        if name == "sdxl":
            context, _, pooled, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False, device="cpu")
            same(conditioning.pooled, pooled)
        else:
            context, pooled = pipeline.encode_prompt(PROMPT, "cpu", 1, False)
    same(conditioning.context, context)
    x, t = latents(), torch.tensor([17, 801])
    same(denoiser.eps(x, t, conditioning), raw_output(tiny[name], x, t, context, pooled))
    assert denoiser.family == name
    assert denoiser.prediction == "epsilon"


def test_one_timestep_serves_the_whole_batch(denoisers: Denoisers) -> None:
    denoiser = denoisers["sd1"]
    conditioning = denoiser.encode_prompt(PROMPT)
    same(denoiser.eps(latents(), 300, conditioning), denoiser.eps(latents(), torch.tensor([300, 300]), conditioning))


def test_inpainting_unet_sees_a_full_mask_and_a_grey_picture(tiny: dict[str, Tiny], denoisers: Denoisers) -> None:
    denoiser = denoisers["inpaint"]
    conditioning = denoiser.encode_prompt(PROMPT)
    x, t = latents(), torch.tensor([17, 801])
    seen = torch.cat([x, torch.ones(2, 1, 8, 16), BLANK.expand(2, 4, 8, 16)], dim=1)
    same(denoiser.eps(x, t, conditioning), raw_output(tiny["inpaint"], seen, t, conditioning.context))
    assert denoiser.latent_shape == (4, 64, 64)


def test_v_prediction_is_converted_to_eps(tiny: dict[str, Tiny], files: dict[str, Path]) -> None:
    x, t = latents(), torch.tensor([17, 801])
    denoiser = load_model(files["sd1"], prediction="v_prediction")
    conditioning = denoiser.encode_prompt(PROMPT)
    v = raw_output(tiny["sd1"], x, t, conditioning.context)
    alpha = NoiseSchedule.scaled_linear().alphas_cumprod[t].double().reshape(2, 1, 1, 1)
    expected = alpha.sqrt() * v + (1 - alpha).sqrt() * x
    torch.testing.assert_close(denoiser.eps(x, t, conditioning), expected.float())


def test_sd2_with_a_wide_bias_predicts_v(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    name = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
    path = tiny["sd2"].save(tmp_path / "v.safetensors", extra={name: torch.linspace(-0.3, 0.3, 64)})
    assert load_model(path).prediction == "v_prediction"
    assert load_model(path).latent_shape == (4, 96, 96)
    assert load_model(path, prediction="epsilon").prediction == "epsilon"


def test_sdxl_says_itself_that_it_predicts_v_and_ends_in_noise(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    path = tiny["sdxl"].save(tmp_path / "v.safetensors", extra={"v_pred": torch.tensor([]), "ztsnr": torch.tensor([])})
    denoiser = load_model(path)
    usual = NoiseSchedule.scaled_linear().alphas_cumprod
    assert denoiser.prediction == "v_prediction"
    assert denoiser.schedule.alphas_cumprod[-1] < 1e-7
    torch.testing.assert_close(denoiser.schedule.alphas_cumprod[0], usual[0])
    assert (denoiser.schedule.alphas_cumprod.diff() < 0).all()


@pytest.mark.parametrize("name", ["sd1", "sdxl"])
def test_pictures_go_through_the_autoencoder_and_back(name: str, tiny: dict[str, Tiny], denoisers: Denoisers) -> None:
    vae, denoiser = tiny[name].vae, denoisers[name]
    pictures = torch.rand(1, 3, 16, 32, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected = vae.encode(pictures * 2 - 1).latent_dist.mean * vae.config.scaling_factor
        decoded = (vae.decode(expected / vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    assert denoiser.vae_scale == 2
    same(denoiser.encode(pictures), expected)
    same(denoiser.decode(expected), decoded)


def test_dtype_is_the_models_but_results_and_autoencoder_are_precise(files: dict[str, Path]) -> None:
    denoiser = load_model(files["sd1"], dtype=torch.bfloat16)
    assert {weight.dtype for weight in denoiser.unet.parameters()} == {torch.bfloat16}
    assert {weight.dtype for weight in denoiser.pipeline.text_encoder.parameters()} == {torch.bfloat16}
    assert denoiser.eps(latents(), 5, denoiser.encode_prompt("")).dtype == torch.float32
    assert denoiser.decode(latents()).dtype == torch.float32
    double = load_model(files["sd1"], dtype=torch.float64)
    assert double.eps(latents().double(), 5, double.encode_prompt("")).dtype == torch.float64


def test_eps_is_differentiable_though_no_weight_asks_for_gradients(denoisers: Denoisers) -> None:
    denoiser = denoisers["sd1"]
    assert not any(weight.requires_grad for part in (denoiser.unet, denoiser.pipeline.vae) for weight in part.parameters())
    assert not denoiser.unet.training
    x = latents().requires_grad_()
    denoiser.eps(x, 5, denoiser.encode_prompt("")).sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


def test_layers_are_all_linears_by_the_name_of_their_weight_in_the_file(tiny: dict[str, Tiny], denoisers: Denoisers) -> None:
    for name, denoiser in denoisers.items():
        tensors = tiny[name].tensors()
        assert set(denoiser.layers.values()) == {module for module in denoiser.unet.modules() if isinstance(module, nn.Linear)}
        for layer, module in denoiser.layers.items():
            assert torch.equal(module.weight, tensors[f"model.{layer}"])
    assert "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight" in denoisers["sd1"].layers


def test_weight_access_casts_to_the_asked_type(denoisers: Denoisers) -> None:
    denoiser = denoisers["sd1"]
    module = denoiser.layers["diffusion_model.input_blocks.1.1.transformer_blocks.0.attn1.to_q.weight"]
    with denoiser.weight_access(module, torch.zeros(1, dtype=torch.float64)) as (weight, bias):
        assert weight.dtype == torch.float64
        assert torch.equal(weight.float(), module.weight)
        assert bias is None


@pytest.mark.parametrize("prefix", ["diffusion_model.", ""])
def test_a_unet_alone_is_loaded_from_either_prefix(prefix: str, tiny: dict[str, Tiny], tmp_path: Path) -> None:
    unet = {name: t for name, t in tiny["sd1"].tensors().items() if name.startswith("model.diffusion_model.")}
    path = tmp_path / "unet.safetensors"
    save_file({name.replace("model.diffusion_model.", prefix): t.clone() for name, t in unet.items()}, path)
    x, context = latents(), torch.randn(1, 7, 32)
    same(load_model(path).eps(x, 9, PromptConditioning(context, None)), raw_output(tiny["sd1"], x, torch.tensor(9), context))


def test_sd1_text_encoder_without_text_model_in_its_names(tiny: dict[str, Tiny], denoisers: Denoisers, tmp_path: Path) -> None:
    path = tmp_path / "old.safetensors"
    save_file({name.replace(".text_model.", "."): t.contiguous().clone() for name, t in tiny["sd1"].tensors().items()}, path)
    same(load_model(path).encode_prompt(PROMPT).context, denoisers["sd1"].encode_prompt(PROMPT).context)
