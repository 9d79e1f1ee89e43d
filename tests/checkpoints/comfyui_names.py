"""Run by ComfyUI's own Python: which weights its UNets have for the configurations that it detects itself in lists of shapes.

Reads {model: {weight: shape}} without prefixes as JSON from standard input and writes the same of ComfyUI's models.
"""

import contextlib
import json
import sys

sys.argv = [sys.argv[0], "--cpu"]
with contextlib.redirect_stdout(sys.stderr):
    import comfy.options

    comfy.options.enable_args_parsing()
    import comfy.model_detection
    import comfy.ops
    import torch
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel

    answer = {}
    for model, shapes in json.load(sys.stdin).items():
        weights = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
        detected = comfy.model_detection.detect_unet_config(weights, "")
        config = comfy.model_detection.model_config_from_unet_config(detected, weights).unet_config
        unet = UNetModel(**config, device="meta", operations=comfy.ops.disable_weight_init)
        answer[model] = {name: list(weight.shape) for name, weight in unet.state_dict().items()}
json.dump(answer, sys.stdout)
