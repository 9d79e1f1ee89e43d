"""What is expected of any pack of nodes: its nodes explain themselves, and loading it disturbs nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from cad_engine import __version__
from tests.comfyui import comfyui

from .node_defs import NODE_IDS, inputs
from .server import PACK, Server

pytestmark = pytest.mark.comfyui


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    """/object_info, which takes a while."""
    return server.object_info()


@cache
def loaded() -> dict[str, Any]:
    """What comfyui_side/loading.py prints."""
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side" / "loading.py"
    done = subprocess.run([python, script], env={"PYTHONPATH": str(root)}, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])  # type: ignore[no-any-return]


def test_these_nodes_and_no_others(nodes: dict[str, Any]) -> None:
    module = nodes["CADErase"]["python_module"]
    assert module.startswith("custom_nodes.")
    assert {node_id for node_id, node in nodes.items() if node["python_module"] == module} == set(NODE_IDS)


@pytest.mark.parametrize("node_id", NODE_IDS)
def test_a_node_explains_itself(nodes: dict[str, Any], node_id: str) -> None:
    node = nodes[node_id]
    assert node_id.startswith("CAD")
    assert node["display_name"]
    assert node["category"] == "model/patch/CAD"
    assert node["description"].endswith(".")
    for name, (_, settings) in inputs(node).items():
        assert settings.get("tooltip", "").endswith("."), name
    assert node["output_tooltips"]
    assert all(tooltip.endswith(".") for tooltip in node["output_tooltips"])
    if any(other.get("search_aliases") for other in nodes.values()):  # a version that knows them
        aliases = node["search_aliases"]
        assert aliases
        assert all(alias == alias.lower().strip() for alias in aliases)
        assert len(set(aliases)) == len(aliases)


def test_nothing_goes_wrong_at_the_start(server: Server) -> None:
    start = server.log().partition("To see the GUI go to")[0]
    assert "Import times for custom nodes" in start
    for line in start.splitlines():
        assert "Traceback" not in line
        assert "IMPORT FAILED" not in line
        assert not re.search("deprecat.*(?:CAD|cad_)|(?:CAD|cad_).*deprecat", line, re.IGNORECASE)


def test_loading_it_imports_only_what_is_there_already() -> None:
    """So that starting ComfyUI takes no longer, and what only `cad` or a picture needs is not needed."""
    assert set(loaded()["modules"]) <= set(sys.stdlib_module_names)


def test_loading_it_hides_no_module_of_comfyui() -> None:
    root, _ = comfyui()
    assert Path(loaded()["nodes"]) == root / "nodes.py"
    assert Path(loaded()["server"]) == root / "server.py"
    assert loaded()["path"] == []


def test_loading_it_warns_of_nothing() -> None:
    assert loaded()["warnings"] == []


def test_comfyui_understands_its_metadata() -> None:
    project, registry = loaded()["config"]["project"], loaded()["config"]["tool_comfy"]
    assert (project["name"], project["version"], project["license"]["text"]) == ("cad-diffusion", __version__, "Apache-2.0")
    assert project["supported_comfyui_version"] == ">=0.3.64"
    assert project["supported_os"] == ["OS Independent"]
    assert registry["publisher_id"]
    assert registry["display_name"]
    assert not registry["web"]  # __init__.py names the folder; twice would load its scripts twice
    assert (PACK / "web").is_dir()
