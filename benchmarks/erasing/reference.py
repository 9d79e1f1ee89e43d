"""The unedited model's side of every comparison, for one concept and seed: painted once and shared by all methods."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cad_engine import files
from cad_engine.audit.attack import AttackStates, attack_states
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.errors import CadError
from cad_engine.generate import generate
from cad_engine.progress import Progress, silent
from cad_engine.sandbox.evaluation import BATCH, CFG, STEPS, Case

from .cases import concept_cases, first_seed, rest_cases
from .settings import MeasureSettings
from .task import Task

KIND = "erase benchmark reference"


@dataclass(frozen=True)
class MainPictures:
    """Pictures [P, 3, 64, 64] in [0, 1] of one model: of the concept, of scenes of named words, and of scenes of unnamed words."""

    target: Tensor
    rest_named: Tensor
    rest_unnamed: Tensor

    @property
    def rest(self) -> Tensor:
        """Pictures of both rests, [2 P, 3, 64, 64]."""
        return torch.cat([self.rest_named, self.rest_unnamed])


@dataclass(frozen=True)
class Reference:
    """What the unedited model paints, and the states that the attack is to reproduce (None without attack)."""

    pictures: MainPictures
    states: AttackStates | None


def paint_cases(denoiser: DiffusersDenoiser, cases: list[Case], progress: Progress = silent) -> Tensor:
    """Pictures [N, 3, 64, 64] of `cases`, sampled as evaluation.paint does."""
    prompts, seeds = [case.prompt for case in cases], [case.seed for case in cases]
    return generate(denoiser, prompts, seeds, steps=STEPS, cfg=CFG, batch=BATCH, progress=progress)


def paint_main(denoiser: DiffusersDenoiser, task: Task, pictures: int, progress: Progress = silent) -> MainPictures:
    """The main pictures of the model as it is.

    They always are painted together: in batches of another size a sum may be rounded otherwise, which would be seen as a difference.
    """
    cases = [
        *concept_cases(task.concept, pictures, task.seed),
        *rest_cases(task.concept, True, pictures, task.seed),
        *rest_cases(task.concept, False, pictures, task.seed),
    ]
    return MainPictures(*paint_cases(denoiser, cases, progress).split(pictures))


def make_reference(denoiser: DiffusersDenoiser, task: Task, settings: MeasureSettings, progress: Progress = silent) -> Reference:
    """The reference of `task`; the model must be unedited."""
    states = None
    if settings.attack is not None:
        states = attack_states(denoiser, task.prompt, first_seed("attack", task.seed), steps=STEPS, cfg=CFG, batch=BATCH, progress=progress)
    return Reference(paint_main(denoiser, task, settings.pictures, progress), states)


def save_reference(path: Path, reference: Reference, made_with: dict[str, Any]) -> None:
    """Write `reference` to `path`, whole or not at all. Raises CadError when the place cannot be written."""
    tensors = {"target": reference.pictures.target, "rest_named": reference.pictures.rest_named}
    tensors["rest_unnamed"] = reference.pictures.rest_unnamed
    if reference.states is not None:
        tensors |= {"t": reference.states.t, "x_t": reference.states.x_t, "eps": reference.states.eps}
    files.write(path, KIND, tensors, {"made_with": made_with})


def load_reference(path: Path, made_with: dict[str, Any]) -> Reference:
    """The reference at `path`. CadError when it is damaged or was made with anything but `made_with`."""
    tensors, info = files.read(path, KIND)
    check_same(path, info.get("made_with"), made_with)
    states = AttackStates(tensors["t"], tensors["x_t"], tensors["eps"]) if "t" in tensors else None
    return Reference(MainPictures(tensors["target"], tensors["rest_named"], tensors["rest_unnamed"]), states)


def check_same(path: Path, found: Any, expected: dict[str, Any]) -> None:
    """CadError naming `path`, and both sides of what differs, unless `found` equals `expected`."""
    if found == expected:
        return
    if not isinstance(found, dict):
        raise CadError(f"{path} is damaged: it does not say what it was made with; delete it to have it made again")
    keys = [key for key in sorted({*found, *expected}) if found.get(key) != expected.get(key)]
    sides = ", ".join(f"{key} {found.get(key)!r} (now {expected.get(key)!r})" for key in keys)
    raise CadError(f"{path} was made with {sides}; delete it, or give another work folder with --resume")
