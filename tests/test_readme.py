"""What the README says is what happens."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from cad_engine.cli.app import app

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_ci_runs_the_readmes_test_command() -> None:
    (command,) = [line for line in README.splitlines() if line.startswith("python3 -m venv") and "pytest" in line]
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_the_python_example_runs() -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert names["pictures"].shape == (4, 3, 64, 64)
    assert bool(torch.isfinite(names["pictures"]).all())


def test_every_command_and_option_exists() -> None:
    callbacks = [command.callback for command in app.registered_commands if command.callback]
    options = {callback.__name__.replace("_", "-"): callback.__annotations__ for callback in callbacks}
    documents = [ROOT / "README.md", ROOT / "docs" / "distributed.md", ROOT / "docs" / "reproduce.md"]
    for line in "\n".join(document.read_text(encoding="utf-8") for document in documents).splitlines():
        line = re.sub(r"^torchrun .* -m cad_engine.cli ", "cad ", line)
        if line.startswith("cad "):
            command = line.split()[1]
            assert command in options, line
            for option in re.findall(r"--([a-z-]+)", line):
                assert option.replace("-", "_") in options[command], line
    assert all(f"`cad {name}`" in README for name in options)


@pytest.mark.parametrize("document", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda path: path.name)
def test_links_point_to_files(document: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", document.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (document.parent / target).exists(), target
