"""What the Comfy Registry asks of a pack: metadata that agree with the code, no eval, no exec, no installing at run time."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cad_engine import __version__

ROOT = Path(__file__).parent.parent
CODE = [ROOT / "__init__.py", *sorted((ROOT / "nodes").rglob("*.py")), *sorted((ROOT / "cad_engine").rglob("*.py"))]

FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__"}
FORBIDDEN_MODULES = {"subprocess", "pip", "ensurepip", "venv", "setuptools", "pkg_resources"}
FORBIDDEN_NAMES = {("os", name) for name in ("system", "popen", "execv", "execve", "execvp", "spawnl", "spawnv", "startfile")}


def pyproject() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brings it")
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def requirement(line: str) -> tuple[str, str]:
    """Name and versions of "matplotlib>=3.8"."""
    match = re.fullmatch(r"([A-Za-z0-9._-]+)\s*(.*)", line)
    assert match, line
    return match[1].lower(), match[2]


def forbidden(source: str) -> Iterator[str]:
    """What the registry does not allow, of the code `source`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FORBIDDEN_CALLS:
            yield f"{node.func.id}() in line {node.lineno}"
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            if (node.value.id, node.attr) in FORBIDDEN_NAMES or (node.value.id == "builtins" and node.attr in FORBIDDEN_CALLS):
                yield f"{node.value.id}.{node.attr} in line {node.lineno}"
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            if isinstance(node, ast.ImportFrom) and node.level:
                continue
            for name in named:
                if name.partition(".")[0] in FORBIDDEN_MODULES:
                    yield f"import of {name} in line {node.lineno}"
            if isinstance(node, ast.ImportFrom):
                yield from (
                    f"import of {node.module}.{alias.name} in line {node.lineno}"
                    for alias in node.names
                    if (node.module, alias.name) in FORBIDDEN_NAMES
                )


@pytest.mark.parametrize("path", CODE, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_code_is_made_or_installed_at_run_time(path: Path) -> None:
    assert list(forbidden(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    "source",
    [
        "eval('1')",
        "exec(text)",
        "builtins.exec(text)",
        "import subprocess",
        "from pip._internal import main",
        "os.system('pip install x')",
        "from os import popen",
        "__import__('pip')",
    ],
)
def test_such_code_would_be_found(source: str) -> None:
    assert len(list(forbidden(source))) == 1


def test_what_is_allowed_is_not_found() -> None:
    assert list(forbidden("model.eval()\nfrom .compile import x\nimport os\nos.replace(a, b)\nre.compile('x')")) == []


def test_the_registrys_own_check_finds_nothing() -> None:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--select", "S102,S307,E702", "__init__.py", "nodes", "cad_engine"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_name_is_one_that_the_registry_takes() -> None:
    name = pyproject()["project"]["name"]
    assert re.fullmatch(r"[a-z](?:[a-z0-9]|[._-](?=[a-z0-9])){0,98}", name)
    assert "comfy" not in name
    assert "comfyui" not in pyproject()["tool"]["comfy"]["DisplayName"].lower()


def test_versions_agree() -> None:
    project = pyproject()["project"]
    assert project["version"] == __version__
    assert re.fullmatch(r"\d+\.\d+\.\d+", project["version"])


def test_who_publishes_it_and_what_it_needs_is_said() -> None:
    table = pyproject()
    registry = table["tool"]["comfy"]
    assert registry.keys() <= {"PublisherId", "DisplayName", "Icon", "Banner", "requires-comfyui", "includes"}
    assert re.fullmatch(r"[a-z0-9-]+", registry["PublisherId"])
    assert registry["DisplayName"]
    assert registry["requires-comfyui"] == ">=0.3.64"
    assert all(address.startswith("https://") for address in table["project"]["urls"].values())


def test_the_icon_is_square_and_of_a_size_that_the_registry_takes() -> None:
    icon = (ROOT / "docs" / "images" / "icon.svg").read_text(encoding="utf-8")
    size = re.search(r'<svg [^>]*width="(\d+)" height="(\d+)"', icon)
    assert size
    assert size[1] == size[2]
    assert int(size[1]) <= 400


def test_what_is_installed_with_the_nodes_is_part_of_what_the_package_needs() -> None:
    needed = dict(map(requirement, pyproject()["project"]["dependencies"]))
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines()
    installed = dict(requirement(line) for line in lines if line and not line.startswith("#"))
    assert installed.items() <= needed.items()
    # ComfyUI brings these itself; another version of them would break it.
    assert not installed.keys() & {"torch", "torchvision", "numpy", "pillow", "safetensors", "transformers"}
