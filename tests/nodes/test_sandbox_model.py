"""The sandbox that the pack's loader builds of ComfyUI's own classes computes there what it computes in diffusers."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.checkpoints.load import load_model
from cad_engine.sandbox.tokenizer import MAX_LENGTH
from tests.comfyui import comfyui

pytestmark = pytest.mark.comfyui

ROOM = MAX_LENGTH - 2  # for tokens between the start and the end
PROMPTS = (
    "",
    "a red star in dotted style",
    "A  picture of an emerald three-sided figure, inverted style",
    "zebra, qüux 東!",
    " ".join(["star"] * ROOM),
    " ".join(["red"] * (ROOM + 1)),
    ", ".join(["a photo of a purple crescent in striped style", "blue hexagon", "golden plus sign in hazy style", "a xylophone"]),
)
"""The last two are longer than the text model: ComfyUI then gives the UNet the embeddings of several pieces, one after the other."""
WEIGHTED = "a (red:1.5) star"
TIMESTEPS = (0, 20, 250, 600, 999)
TOLERANCE = 1e-5


@dataclass(frozen=True)
class Comparison:
    """Both sides: the model in diffusers with the inputs, and what ComfyUI made of the same file and inputs."""

    denoiser: DiffusersDenoiser
    x_t: Tensor
    t: Tensor
    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]
    answer: dict[str, Any]

    def token_ids(self, prompt: str) -> list[list[int]]:
        """The ids of all of `prompt`, in pieces that the text model takes."""
        start, *ids, end = self.denoiser.pipeline.tokenizer(prompt).input_ids
        pieces = [ids[i : i + ROOM] for i in range(0, len(ids), ROOM)] or [[]]
        return [[start, *piece, *[end] * (MAX_LENGTH - 1 - len(piece))] for piece in pieces]

    @torch.no_grad()
    def context(self, prompt: str) -> Tensor:
        """The embeddings of all pieces of `prompt`, one after the other."""
        encoded = self.denoiser.pipeline.text_encoder(torch.tensor(self.token_ids(prompt))).last_hidden_state
        return encoded.flatten(0, 1)[None]


def run_comfyui(folder: Path) -> None:
    root, python = comfyui()
    done = subprocess.run(
        [python, Path(__file__).parent / "comfyui_side" / "sandbox.py", folder],
        env={**os.environ, "PYTHONPATH": str(root), "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("comfyui")
    (folder / "prompts.json").write_text(json.dumps([*PROMPTS, WEIGHTED]), encoding="utf-8")

    denoiser = load_model("sandbox")
    generator = torch.Generator().manual_seed(1)
    # Every timestep with the same two x_t, so that outputs differ for no other reason.
    noise = torch.randn(2, *denoiser.latent_shape, generator=generator)
    x_t, t = noise.repeat(len(TIMESTEPS), 1, 1, 1), torch.tensor(TIMESTEPS).repeat_interleave(len(noise))
    # ComfyUI's x is x_t / sqrt(alphas_cumprod). It finds t by sigma, so that its noise schedule is compared with ours, too.
    alphas_cumprod = denoiser.schedule.alphas_cumprod[t].double()
    coarse = torch.rand(3, 3, 6, 6, generator=generator)
    pictures = nn.functional.interpolate(coarse, (denoiser.vae_scale * denoiser.latent_shape[1],) * 2, mode="bilinear")
    pictures[0] = torch.rand(pictures[0].shape, generator=generator)
    inputs = {
        "x": (x_t / alphas_cumprod.sqrt().reshape(-1, 1, 1, 1)).float(),
        "sigma": ((1 - alphas_cumprod) / alphas_cumprod).sqrt().float(),
        "pictures": pictures,
        "latents": torch.cat([noise, denoiser.encode(pictures)]),
    }
    save_file(inputs, folder / "inputs.safetensors")
    run_comfyui(folder)
    answer = json.loads((folder / "answer.json").read_text(encoding="utf-8"))
    return Comparison(denoiser, x_t, t, inputs, load_file(folder / "outputs.safetensors"), answer)


def relative_error(actual: Tensor, expected: Tensor) -> float:
    """The largest of the samples' relative errors."""
    assert actual.shape == expected.shape
    return ((actual - expected).flatten(1).norm(dim=1) / expected.flatten(1).norm(dim=1)).max().item()


def test_every_weight_has_its_place(comparison: Comparison) -> None:
    exact = {"missing": [], "unexpected": []}
    assert comparison.answer["unet"] == exact
    assert comparison.answer["vae"] == exact
    # Neither is used in Stable Diffusion 1.x, whose checkpoints do not have them.
    assert comparison.answer["text"] == {"missing": ["logit_scale", "transformer.text_projection.weight"], "unexpected": []}


def test_comfyui_can_copy_all_three(comparison: Comparison) -> None:
    if not comparison.answer["copies"]:
        pytest.skip("this version of ComfyUI makes no copies of models")
    assert comparison.answer["copies"] == [True] * 3


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_token_ids(index: int, comparison: Comparison) -> None:
    expected = comparison.token_ids(PROMPTS[index])
    assert comparison.answer["tokens"][index] == expected
    # What diffusers encodes of a prompt is its first piece.
    cut = comparison.denoiser.pipeline.tokenizer(PROMPTS[index], padding="max_length", truncation=True).input_ids
    assert expected[0] == cut


def test_prompts_are_as_long_as_they_should_be(comparison: Comparison) -> None:
    assert [len(pieces) for pieces in comparison.answer["tokens"][: len(PROMPTS)]] == [1, 1, 1, 1, 1, 2, 2]


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_text_embedding(index: int, comparison: Comparison) -> None:
    actual = comparison.outputs[f"context.{index}"]
    assert relative_error(actual, comparison.context(PROMPTS[index])) < TOLERANCE
    assert relative_error(actual[:, :MAX_LENGTH], comparison.denoiser.encode_prompt(PROMPTS[index]).context) < TOLERANCE


def test_weighted_word(comparison: Comparison) -> None:
    """ComfyUI weights a word by its distance from the empty prompt, which it writes with the model's own start, end and padding."""
    expected, empty = comparison.context("a red star"), comparison.context("")
    expected[:, 2] = empty[:, 2] + 1.5 * (expected[:, 2] - empty[:, 2])
    assert relative_error(comparison.outputs[f"context.{len(PROMPTS)}"], expected) < TOLERANCE


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_eps(index: int, comparison: Comparison) -> None:
    with torch.no_grad():
        conditioning = PromptConditioning(comparison.context(PROMPTS[index]), None)
        expected = comparison.denoiser.eps(comparison.x_t, comparison.t, conditioning)
    assert relative_error(comparison.outputs[f"eps.{index}"], expected) < TOLERANCE


def test_eps_depends_on_prompt_timestep_and_sample(comparison: Comparison) -> None:
    eps = torch.stack([comparison.outputs[f"eps.{index}"].unflatten(0, (len(TIMESTEPS), -1)) for index in range(len(PROMPTS))])
    for dim in range(3):
        first, *others = eps.unbind(dim)
        assert all((other - first).norm() / first.norm() > 100 * TOLERANCE for other in others)


def test_encoding(comparison: Comparison) -> None:
    expected = comparison.denoiser.encode(comparison.inputs["pictures"])
    assert relative_error(comparison.outputs["encoded"], expected) < TOLERANCE


def test_decoding(comparison: Comparison) -> None:
    expected = comparison.denoiser.decode(comparison.inputs["latents"])
    assert relative_error(comparison.outputs["decoded"], expected) < TOLERANCE
    assert expected.std() > 0.02  # not clamped to one colour
