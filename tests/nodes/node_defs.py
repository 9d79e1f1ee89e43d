"""The words of the pack's nodes as ComfyUI's front end looks them up in each language: locales/LANGUAGE/nodeDefs.json.

    python -m tests.nodes.node_defs http://127.0.0.1:8188

prints the English file anew, from a running ComfyUI with the pack in it. The other languages are translated from it by hand.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import requests

ROOT = Path(__file__).parents[2]
LANGUAGES = ("en", "zh", "ja")
NODE_IDS = (
    "CADLoadSandbox",
    "CADAttribute",
    "CADAttributionViewer",
    "CADErase",
    "CADAmplify",
    "CADApplyEdit",
    "CADSaveAttribution",
    "CADLoadAttribution",
    "CADSaveEdit",
    "CADLoadEdit",
    "CADSafetyCheck",
    "CADAudit",
)


def locale(language: str, name: str = "nodeDefs") -> dict[str, Any]:
    """A file of the pack's locales."""
    return json.loads((ROOT / "locales" / language / f"{name}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def inputs(node: Mapping[str, Any]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Type (or options) and settings of each input of a node of /object_info, by name."""
    return {
        name: (spec[0], spec[1] if len(spec) > 1 else {})
        for kind in ("required", "optional")
        for name, spec in node["input"].get(kind, {}).items()
    }


def options(node: Mapping[str, Any]) -> set[str]:
    """What the drop-downs of a node of /object_info offer, of whichever form (older versions have the list in the type's place)."""
    lists = [kind if isinstance(kind, list) else settings.get("options", []) for kind, settings in inputs(node).values()]
    return {option for offered in lists for option in offered}


def node_defs(nodes: Mapping[str, Any]) -> dict[str, Any]:
    """`nodes`, a part of /object_info, in the form of nodeDefs.json: names and tooltips, without the options of drop-downs."""
    return {
        node_id: {
            "display_name": node["display_name"],
            "description": node["description"],
            "inputs": {
                name: {"name": settings.get("display_name", name), "tooltip": settings.get("tooltip")}
                for name, (_, settings) in inputs(node).items()
            },
            "outputs": {
                str(number): {"name": name, "tooltip": tooltip}
                for number, (name, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
            },
        }
        for node_id, node in nodes.items()
    }


if __name__ == "__main__":
    answer = requests.get(f"{sys.argv[1]}/object_info", timeout=60)
    answer.raise_for_status()
    ours = node_defs({node_id: answer.json()[node_id] for node_id in NODE_IDS})
    sys.stdout.buffer.write((json.dumps(ours, indent=2, ensure_ascii=False) + "\n").encode())
