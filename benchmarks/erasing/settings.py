"""What every cell of the table was measured with: cells with other settings are never mixed."""

from __future__ import annotations

import ast
import hashlib
import inspect
import os
import platform
from collections.abc import Callable
from dataclasses import asdict, dataclass, is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from cad_engine import __version__
from cad_engine.sandbox.evaluation import CFG, STEPS
from cad_engine.sandbox.judge import JUDGE_FILE

MEASURES_VERSION = 1
"""To be raised whenever a measure changes, so that older cells are refused."""


@dataclass(frozen=True)
class AttackSettings:
    """Of the adversarial measure, see attack.attack: `iterations` of `batch` states, from each of two starts."""

    iterations: int = 100
    batch: int = 8


@dataclass(frozen=True)
class MeasureSettings:
    """How a cell is measured.

    Attributes:
        pictures: of each measure, per method, concept and seed.
        attack: None leaves the adversarial measure out.
        threads: that PyTorch computes with, which seconds depend on.
    """

    pictures: int = 17
    attack: AttackSettings | None = AttackSettings()
    threads: int = 1

    def described(self, model: str) -> dict[str, Any]:
        """As JSON, with the versions of everything that decides over a number; `model` is the unedited model's digest."""
        judge = hashlib.sha256(JUDGE_FILE.read_bytes()).hexdigest()[:16]
        return {
            **asdict(self),
            "steps": STEPS,
            "cfg": CFG,
            "model": model,
            "judge": judge,
            "version": __version__,
            "measures": MEASURES_VERSION,
        }


def method_identity(method: Callable[..., Any]) -> dict[str, str]:
    """What tells a method from its older version: a digest of the file that it is written in, and its parameters where it has any.

    The digest is of the syntax tree, so comments, docstrings and line breaks count for nothing. Parameters are seen of dataclasses and of
    functools.partial. What the file imports is not looked at.
    """
    parameters = ""
    if isinstance(method, partial):
        parameters, method = repr((method.args, sorted(method.keywords.items()))), method.func
    elif is_dataclass(method):
        parameters = repr(method)
    written = method if inspect.isroutine(method) or inspect.isclass(method) else type(method)
    source = Path(inspect.getfile(inspect.unwrap(written))).read_text(encoding="utf-8")
    return {"source": code_digest(source), "parameters": parameters}


def code_digest(source: str) -> str:
    """12 hexadecimal digits of what Python `source` does, as its syntax tree without docstrings says it."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        for body in (value for name, value in ast.iter_fields(node) if name == "body" and isinstance(value, list)):
            body[:] = [line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))]
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()[:12]


def machine() -> dict[str, Any]:
    """What seconds were measured on."""
    return {"cpu": _cpu_name(), "cores": os.cpu_count(), "threads": torch.get_num_threads(), "torch": torch.__version__}


def _cpu_name() -> str:
    """The processor's name where the system tells it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
