"""Run by ComfyUI's own Python: what loading the pack into a ComfyUI that has started brings with it.

Prints one JSON object: "modules" (top-level ones that it imports), "nodes" and "server" (files of these modules), "path" (what it adds
to sys.path), "warnings" (that its code causes), and "config" (its pyproject.toml as ComfyUI understands it).
"""

# ruff: noqa: E402 - ComfyUI reads its command line when it is imported.

import asyncio
import json
import sys
import warnings

sys.argv = [sys.argv[0], "--cpu"]

import comfy.options

comfy.options.enable_args_parsing()

import utils.extra_config  # noqa: F401 - as ComfyUI's main.py does, before another package can be called utils
from comfy_config import config_parser

import nodes  # isort: skip
import server  # isort: skip

known, path = set(sys.modules), list(sys.path)
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import pack

    extension = asyncio.run(pack._module.comfy_entrypoint())
    for node in asyncio.run(extension.get_node_list()):
        node.GET_SCHEMA()

answer = {
    "modules": sorted({name for name in set(sys.modules) - known if "." not in name} - {pack.__name__, pack.NAME}),
    "nodes": nodes.__file__,
    "server": server.__file__,
    "path": [entry for entry in sys.path if entry not in path],
    "warnings": [str(warning.message) for warning in caught if warning.filename.startswith(str(pack.ROOT))],
    "config": config_parser.extract_node_configuration(str(pack.ROOT)).model_dump(),
}
print(json.dumps(answer))
