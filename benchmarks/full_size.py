"""UNets of Stable Diffusion's full size with random weights: shapes, memory and time are those of real ones."""

from __future__ import annotations

import argparse
import ctypes
import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DConditionModel

from cad_engine.checkpoints.components import Components
from cad_engine.checkpoints.denoiser import DiffusersDenoiser, PromptConditioning
from cad_engine.schedule import NoiseSchedule

UNETS: dict[str, dict[str, Any]] = {
    "sd1": {"cross_attention_dim": 768},  # diffusers' defaults are Stable Diffusion 1.x
    "sdxl": {
        "sample_size": 128,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2, 10],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
        "use_linear_projection": True,
    },
}
PIXELS_PER_LATENT = 8


class RandomDenoiser(DiffusersDenoiser):
    """A UNet of full size with random weights, whose prompts have random conditionings."""

    def encode_prompt(self, prompt: str) -> PromptConditioning:
        """A random conditioning of the right shape, the same for the same prompt."""
        generator = torch.Generator().manual_seed(sum(map(ord, prompt)))
        context = torch.randn(1, 77, self.unet.config.cross_attention_dim, generator=generator)
        return PromptConditioning(context, torch.randn(1, 1280, generator=generator) if self.family == "sdxl" else None)


def random_denoiser(model: str, device: str, dtype: torch.dtype) -> RandomDenoiser:
    """The UNet of `model`, with weights as small as trained ones are."""
    with torch.device("meta"):
        unet = UNet2DConditionModel(**UNETS[model])
    unet = unet.to(dtype).to_empty(device=device)
    torch.manual_seed(0)
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            _ = parameter.normal_(0, 0.02) if parameter.ndim > 1 else parameter.fill_(0.0 if name.endswith("bias") else 1.0)
    parts = Components(model, "epsilon", NoiseSchedule.scaled_linear(), unet, None, (), ())  # type: ignore[arg-type]
    return RandomDenoiser(parts.pipeline(), model, "epsilon", parts.schedule, f"random {model}")  # type: ignore[arg-type]


class PeakMemory:
    """The most memory that is taken from its making on, beyond what was taken then: PyTorch's on a GPU, else the process's (Linux)."""

    def __init__(self, device: str) -> None:
        self.device = device
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            ctypes.CDLL(None).malloc_trim(0)  # or what making the model left over would hide some of what comes
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak begins anew
            self._before = _resident("VmRSS")

    def gib(self) -> float:
        """In GiB."""
        peak = torch.cuda.max_memory_allocated() if self.device == "cuda" else _resident("VmHWM")
        return (peak - self._before) / 2**30


def _resident(name: str) -> int:
    """Bytes of the process by one of the names that Linux gives them."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


def full_size_parser(benchmark: str, description: str | None, latent: int) -> argparse.ArgumentParser:
    """What every benchmark at full size can be asked for; `latent` is the default side."""
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{benchmark}", description=description)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--latent", type=int, default=latent, help="side of the latents; 64 is 512 pixels")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    parser.add_argument("--json", type=Path)
    return parser


def write_json(found: dict[str, Any], path: Path | None) -> None:
    """Print what was measured, and keep it in `path` where there is one."""
    text = json.dumps(found, indent=2)
    if path is not None:
        path.write_text(text + "\n", encoding="utf-8")
    print(text)
