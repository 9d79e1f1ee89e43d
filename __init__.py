"""CAD for ComfyUI. This file hands ComfyUI the nodes and the web folder, and does nothing else."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
