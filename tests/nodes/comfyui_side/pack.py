"""Run by ComfyUI's own Python: the pack as ComfyUI loads it, without a server. Imported before anything of ComfyUI."""

# ruff: noqa: E402 - ComfyUI reads its command line when it is imported.

import importlib.util
import sys
from pathlib import Path

sys.argv = [sys.argv[0], "--cpu"]

import comfy.options

comfy.options.enable_args_parsing()

import utils.extra_config  # noqa: F401 - as ComfyUI's main.py does, before another package can be called utils

ROOT = Path(__file__).parents[3]
NAME = "cad_pack"

_spec = importlib.util.spec_from_file_location(NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
assert _spec is not None
assert _spec.loader is not None
_module = importlib.util.module_from_spec(_spec)
sys.modules[NAME] = _module
_spec.loader.exec_module(_module)


def part(name: str):
    """A module of the pack, e.g. part("nodes.denoiser")."""
    return importlib.import_module(f"{NAME}.{name}")
