"""Diffusers folders: the same eps and prompt embedding as the pipeline that was saved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file, save_file

from cad_engine.checkpoints.load import load_model
from cad_engine.errors import CadError

from .tiny_checkpoints import SCHEDULER, Tiny, same

PROMPT = "a photo of a cat"


@pytest.fixture(scope="module")
def folders(tiny: dict[str, Tiny], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("folders")
    for name, model in tiny.items():
        model.pipeline().save_pretrained(root / name)
    return {name: root / name for name in tiny}


@pytest.fixture
def sd1_copy(folders: dict[str, Path], tmp_path: Path) -> Path:
    return shutil.copytree(folders["sd1"], tmp_path / "model")


@pytest.mark.parametrize("name", ["sd1", "sd2", "sdxl", "inpaint"])
def test_folder_gives_what_the_single_file_gives(name: str, folders: dict[str, Path], files: dict[str, Path]) -> None:
    folder, single = load_model(folders[name]), load_model(files[name])
    ours, theirs = folder.encode_prompt(PROMPT), single.encode_prompt(PROMPT)
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([3, 700])
    same(ours.context, theirs.context)
    assert (ours.pooled is None) == (theirs.pooled is None) == (name != "sdxl")
    same(folder.eps(x, t, ours), single.eps(x, t, theirs))
    same(folder.decode(x), single.decode(x))
    assert list(folder.layers) == list(single.layers)
    assert (folder.family, folder.latent_shape) == (single.family, single.latent_shape)
    torch.testing.assert_close(folder.schedule.alphas_cumprod, single.schedule.alphas_cumprod, rtol=1e-5, atol=0)


def test_folder_computes_what_its_pipeline_computes(tiny: dict[str, Tiny], folders: dict[str, Path]) -> None:
    pipeline, denoiser = tiny["sdxl"].pipeline(), load_model(folders["sdxl"])
    conditioning = denoiser.encode_prompt(PROMPT)
    with torch.no_grad():
        context, _, pooled, _ = pipeline.encode_prompt(PROMPT, do_classifier_free_guidance=False, device="cpu")
        x = torch.randn(1, 4, 8, 8)
        extra = {"text_embeds": pooled, "time_ids": torch.tensor([[16.0, 16.0, 0.0, 0.0, 16.0, 16.0]])}
        expected = pipeline.unet(x, 40, context, added_cond_kwargs=extra).sample
    same(conditioning.context, context)
    same(conditioning.pooled, pooled)
    same(denoiser.eps(x, 40, conditioning), expected)


def test_scheduler_says_what_is_predicted_and_how_it_ends(tiny: dict[str, Tiny], tmp_path: Path) -> None:
    scheduler = DDIMScheduler(**SCHEDULER, prediction_type="v_prediction", rescale_betas_zero_snr=True)
    tiny["sd1"].pipeline(scheduler).save_pretrained(tmp_path)
    denoiser = load_model(tmp_path)
    assert denoiser.prediction == "v_prediction"
    assert 0 < denoiser.schedule.alphas_cumprod[-1] < 1e-7
    assert load_model(tmp_path, prediction="epsilon").prediction == "epsilon"


def test_fp16_variant_is_used_when_it_is_all_there_is(tiny: dict[str, Tiny], sd1_copy: Path) -> None:
    for file in sd1_copy.rglob("*.safetensors"):
        half = {name: tensor.half() for name, tensor in load_file(file).items()}
        file.unlink()
        save_file(half, file.with_suffix(".fp16.safetensors"), metadata={"format": "pt"})
    denoiser = load_model(sd1_copy)
    assert torch.equal(denoiser.unet.conv_in.weight, tiny["sd1"].unet.conv_in.weight.half().float())


def test_text_encoder_in_its_older_names(sd1_copy: Path, folders: dict[str, Path]) -> None:
    file = sd1_copy / "text_encoder/model.safetensors"
    save_file({f"text_model.{name}": tensor for name, tensor in load_file(file).items()}, file, metadata={"format": "pt"})
    same(load_model(sd1_copy).encode_prompt(PROMPT).context, load_model(folders["sd1"]).encode_prompt(PROMPT).context)


def _without_index(folder: Path) -> None:
    (folder / "model_index.json").unlink()


def _other_pipeline(folder: Path) -> None:
    index = json.loads((folder / "model_index.json").read_text())
    (folder / "model_index.json").write_text(json.dumps({**index, "_class_name": "FluxPipeline"}))


def _broken_index(folder: Path) -> None:
    (folder / "model_index.json").write_text("{")


def _pickled_unet(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()


def _truncated_unet(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    file.write_bytes(file.read_bytes()[:-1000])


def _weight_missing(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    del weights["conv_in.weight"]
    save_file(weights, file, metadata={"format": "pt"})


def _wrong_shape(folder: Path) -> None:
    file = folder / "unet/diffusion_pytorch_model.safetensors"
    save_file({**load_file(file), "conv_in.bias": torch.zeros(7)}, file, metadata={"format": "pt"})


def _flow_scheduler(folder: Path) -> None:
    (folder / "scheduler/scheduler_config.json").write_text(json.dumps({"_class_name": "FlowMatchEulerDiscreteScheduler"}))


def _no_tokenizer(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (_without_index, "model_index.json is missing"),
        (_other_pipeline, "FluxPipeline"),
        (_broken_index, "not readable as JSON"),
        (_pickled_unet, "pickled weights"),
        (_truncated_unet, "cannot be loaded as UNet2DConditionModel"),
        (_weight_missing, "conv_in.weight"),
        (_wrong_shape, "conv_in.bias"),
        (_flow_scheduler, "FlowMatchEulerDiscreteScheduler"),
        (_no_tokenizer, "not a tokenizer"),
    ],
)
def test_unusable_folders_are_refused_in_one_line(damage: Any, words: str, sd1_copy: Path) -> None:
    damage(sd1_copy)
    with pytest.raises(CadError, match=words) as caught:
        load_model(sd1_copy)
    assert str(sd1_copy) in str(caught.value)
    assert "\n" not in str(caught.value)
