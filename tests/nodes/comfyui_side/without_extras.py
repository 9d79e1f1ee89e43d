"""Run by ComfyUI's own Python: the pack imports, and the sandbox loads, where what only `cad` needs is not installed."""

# ruff: noqa: E402 - first the packages are hidden.

import sys

for name in ("diffusers", "accelerate", "peft", "typer", "rich"):
    sys.modules[name] = None  # type: ignore[assignment] - makes every import of it fail

import pack

sandbox_model = pack.part("nodes.sandbox_model")
sandbox_model.load_unet()
sandbox_model.load_clip()
sandbox_model.load_vae()
