"""Generation speed in ComfyUI with an edit applied, against the same model without; and what patching the edit in costs.

    COMFYUI=~/comfy/ComfyUI; PYTHONPATH=$COMFYUI $COMFYUI/.venv/bin/python benchmarks/comfyui_generation.py [--rounds N] [--json FILE]

A UNet of Stable Diffusion 1.5's size with random weights, one 512 x 512 picture with guidance (batch 2). Sampling steps with and
without the edit take turns, so that both see the same machine; what counts is their ratio. Needs ComfyUI's own Python.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import Any

ARGUMENTS = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
ARGUMENTS.add_argument("--rounds", type=int, default=8, help="sampling steps of each kind")
ARGUMENTS.add_argument("--json", type=Path, help="where to write the figures")
OPTIONS = ARGUMENTS.parse_args()

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/nodes/comfyui_side"))

import pack  # isort: skip  # noqa: E402 - reads the command line for itself

import comfy.model_management  # noqa: E402
import comfy.model_patcher  # noqa: E402
import comfy.supported_models  # noqa: E402
import torch  # noqa: E402

SD15 = {
    "image_size": 32,
    "in_channels": 4,
    "out_channels": 4,
    "model_channels": 320,
    "channel_mult": [1, 2, 4, 4],
    "num_res_blocks": [2, 2, 2, 2],
    "transformer_depth": [1, 1, 1, 1, 1, 1, 0, 0],
    "transformer_depth_output": [1, 1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0],
    "transformer_depth_middle": 1,
    "use_spatial_transformer": True,
    "use_linear_in_transformer": False,
    "context_dim": 768,
    "adm_in_channels": None,
    "use_temporal_attention": False,
    "legacy": False,
}


def model_of_sd15_size() -> Any:
    config = comfy.supported_models.SD15(SD15)
    device = comfy.model_management.get_torch_device()
    on_cpu = comfy.model_management.is_device_cpu(device)
    config.set_inference_dtype(torch.float32 if on_cpu else torch.float16, None)
    model = config.get_model({}, "", comfy.model_management.unet_offload_device())
    generator = torch.Generator().manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        spread = 0.02 if parameter.ndim == 1 else parameter[0].numel() ** -0.5
        parameter.data.copy_(torch.randn(parameter.shape, generator=generator) * spread)
    kind = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return kind(model, load_device=device, offload_device=comfy.model_management.unet_offload_device())


def paper_sized_edit(model: Any) -> Any:
    """As many weights of every feed-forward matrix as the paper's 0.1 % rows take, at random places."""
    erasure, edit = pack.part("cad_engine.erasure"), pack.part("cad_engine.edit")
    shapes = pack.part("nodes.patch").layer_shapes(model)
    generator = torch.Generator().manual_seed(1)
    counts = {name: rows * (columns // 1000) for name, (rows, columns) in shapes.items() if ".ff." in name}
    places = {
        name: erasure.distinct_positions(shapes[name][0] * shapes[name][1], count, generator) for name, count in counts.items() if count
    }
    return edit.ablation(places, shapes, {})


def loaded(model: Any) -> float:
    """Seconds to load or patch `model` in."""
    start = time.perf_counter()
    comfy.model_management.load_models_gpu([model])
    wait()
    return time.perf_counter() - start


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


@torch.inference_mode()
def main() -> None:
    model = model_of_sd15_size()
    edit = paper_sized_edit(model)
    edited = pack.part("nodes.patch").patched_model(model, edit)
    device = model.load_device
    x, sigma = torch.randn(2, 4, 64, 64, device=device), torch.full((2,), 3.0, device=device)
    context = torch.randn(2, 77, 768, device=device)
    seconds: dict[str, list[float]] = {"without": [], "with": []}
    patching: list[float] = []
    loaded(model)
    model.model.apply_model(x, sigma, c_crossattn=context)  # warm up
    for number in range(2 * OPTIONS.rounds):
        kind = "with" if number % 4 in (1, 2) else "without"
        took = loaded(edited if kind == "with" else model)
        if kind == "with" and number % 4 == 1:
            patching.append(took)
        start = time.perf_counter()
        model.model.apply_model(x, sigma, c_crossattn=context)
        wait()
        seconds[kind].append(time.perf_counter() - start)
    ratios = sorted(a / b for a, b in zip(seconds["with"], seconds["without"], strict=True))
    figures = {
        "machine": f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {device}",
        "torch": torch.__version__,
        "weights_in_edit": len(edit),
        "step_seconds_without": statistics.median(seconds["without"]),
        "step_seconds_with": statistics.median(seconds["with"]),
        "ratio_median": statistics.median(ratios),
        "ratio_range": [ratios[0], ratios[-1]],
        "patching_seconds": statistics.median(patching),
    }
    print(json.dumps(figures, indent=2))
    if OPTIONS.json:
        OPTIONS.json.write_text(json.dumps(figures, indent=2), encoding="utf-8")


main()
