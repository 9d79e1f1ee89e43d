"""Which footprint is picked for how much free memory, and that the scores do not depend on it."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch

from cad_engine import affordable as affordable_module
from cad_engine import concept as concept_module
from cad_engine.accumulator import GradientAccumulator
from cad_engine.activations import Activations
from cad_engine.affordable import affordable
from cad_engine.attribution import Attribution
from cad_engine.components import choose_layers
from cad_engine.concept import attribute_concept
from cad_engine.curvature import CurvatureAccumulator
from cad_engine.footprint import SHARE, Footprint, Needs, choices, fitting
from cad_engine.gradients import captured_gradients, resident_weight
from cad_engine.memory import free_memory
from tests.test_attribution import assert_close
from tests.test_rounds import SETTINGS, prompted
from tests.tiny_models import conditioning, tiny_denoiser

GIB = 2**30
NEEDS = Needs(sums=4 * GIB, activations=Activations(kept=2 * GIB, checkpointed=GIB // 2))
"""So batch 4 takes 12 GiB, 2 takes 8, 1 takes 6; checkpointed 6, 5 and 4.5; with sums on the host 8, 4, 2 and 2, 1, 0.5."""

PAPER = replace(SETTINGS, keep=(), rounds=0, contexts=(), batch=4, trajectories=4)
METHODS = {
    "paper": PAPER,
    "amplify": replace(PAPER, objective="amplify", base=""),
    "per harm": replace(SETTINGS, rounds=0, contexts=(), batch=4),
    "rounds": replace(SETTINGS, batch=4, rounds=1),
}


def picked(gib: float, checkpointing: bool | None = None, host_gib: float | None = None) -> Footprint:
    """What is picked for batch 4 where `gib` can be planned with."""
    return fitting(4, checkpointing, NEEDS, round(gib * GIB / SHARE) + 1, None if host_gib is None else round(host_gib * GIB / SHARE) + 1)


@pytest.mark.parametrize(
    ("gib", "found"),
    [
        (12, Footprint(4, False)),
        (11.9, Footprint(2, False)),
        (8, Footprint(2, False)),
        (7.9, Footprint(1, False)),
        (6, Footprint(1, False)),
        (5.9, Footprint(2, True)),
        (4.9, Footprint(1, True)),
        (1, Footprint(1, True)),  # does not fit; nothing smaller is left
    ],
)
def test_as_little_speed_is_lost_as_can_be(gib: float, found: Footprint) -> None:
    assert picked(gib) == found
    assert picked(gib, host_gib=3.9) == found  # the sums do not fit there


@pytest.mark.parametrize(
    ("gib", "found"),
    [
        (4.5, Footprint(1, True)),
        (4.4, Footprint(4, True, True)),
        (1.9, Footprint(2, True, True)),
        (0.9, Footprint(1, True, True)),
        (0.1, Footprint(1, True, True)),
    ],
)
def test_sums_go_to_the_host_when_nothing_else_fits(gib: float, found: Footprint) -> None:
    assert picked(gib, host_gib=4) == found


def test_what_was_said_about_checkpointing_holds() -> None:
    assert picked(100, checkpointing=True) == Footprint(4, True)
    assert picked(5.9, checkpointing=True) == Footprint(2, True)
    assert picked(5.9, checkpointing=False) == Footprint(1, False)  # more than there is, and begun with all the same
    assert picked(4.1, checkpointing=False, host_gib=4) == Footprint(2, False, True)


def test_choices_are_all_there_is_each_once() -> None:
    for host in (False, True):
        possible = list(choices(5, None, host))
        assert set(possible) == {
            Footprint(b, c, h) for b in (5, 2, 1) for c in (False, True) for h in ((False, True) if host else (False,))
        }
        assert len(possible) == len(set(possible))


@pytest.mark.parametrize(
    ("gib", "host_gib", "line"),
    [
        (90, None, None),
        (7.2, None, "CAD: 8.0 GiB of memory are free, and batch 4 needs 12.0 by estimate; taking batch 1, which needs 6.0"),
        (0.9, 8, "CAD: 1.0 GiB of memory are free, and batch 4 needs 12.0 by estimate; "
                 "taking batch 1, checkpointing, sums in host memory, which needs 0.5"),
        (0.9, None, "CAD: 1.0 GiB of memory are free, and even batch 1, checkpointing needs 4.5 by estimate; trying it"),
    ],
)  # fmt: skip
def test_it_says_what_it_picked(gib: float, host_gib: float | None, line: str | None, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "cad_engine"):
        picked(gib, host_gib=host_gib)
    assert [record.getMessage() for record in caplog.records] == ([] if line is None else [line])


def needs(settings: Any, **changes: Any) -> Needs:
    """What `affordable` says that `settings` need."""
    seen: list[Needs] = []
    denoiser = prompted(dtype=torch.float32)
    denoiser.free_memory = lambda: 1
    fit = fitting
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(affordable_module, "fitting", lambda *args: (seen.append(args[2]), fit(*args))[1])
        affordable(denoiser, settings, **changes)
    return seen[0]


def test_what_is_needed_grows_as_it_should() -> None:
    one = needs(PAPER)
    layers = prompted().layers
    assert one.sums == 4 * sum(layers[name].weight.numel() for name in choose_layers(layers, PAPER.components))
    assert needs(METHODS["rounds"]).sums == needs(METHODS["per harm"]).sums == 2 * one.sums  # scores and harms
    assert needs(replace(PAPER, components=("ff",))).sums < one.sums
    larger = needs(replace(PAPER, size=(16, 16)))
    assert larger.activations == needs(METHODS["amplify"], latents=torch.zeros(3, 4, 16, 16)).activations
    assert one.activations.kept < larger.activations.kept <= 4 * one.activations.kept
    assert larger.sums == one.sums


def test_processes_share_what_is_free() -> None:
    denoiser = prompted(dtype=torch.float32)
    need = needs(PAPER)
    denoiser.free_memory = lambda: round(2 * need.on_device(Footprint(4, False)) / SHARE) + 2
    assert affordable(denoiser, PAPER, sharing=2) == Footprint(4, False)
    assert affordable(denoiser, PAPER, sharing=3) == Footprint(2, False)


def test_where_nothing_is_known_or_all_is_free_it_is_as_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def measured(*_: Any) -> Activations:
        raise AssertionError("there is nothing to measure")

    monkeypatch.setattr(affordable_module, "measured_activations", measured)
    denoiser = prompted()
    for free in (None, 10**12):
        denoiser.free_memory = lambda free=free: free
        assert affordable(denoiser, PAPER) == Footprint(4, False)
        assert affordable(denoiser, replace(PAPER, checkpointing=True)) == Footprint(4, True)


def rows(attribution: Attribution) -> dict[str, Mapping[str, torch.Tensor]]:
    return {name: layer.row_mass for name, layer in attribution.layers.items()}


@pytest.mark.parametrize("method", METHODS)
def test_the_scores_do_not_depend_on_what_is_free(method: str) -> None:
    settings = METHODS[method]
    expected = attribute_concept(prompted(), settings)
    assert (expected.info["batch"], expected.info["checkpointing"]) == (4, False)
    denoiser = prompted()
    denoiser.free_memory = lambda: 1
    found = attribute_concept(denoiser, settings)
    assert (found.info["batch"], found.info["checkpointing"]) == (1, True)
    assert_close(rows(found), rows(expected), 1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_sums_on_the_host_are_the_same(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = attribute_concept(prompted(), METHODS[method])
    devices = []
    for kind in (GradientAccumulator, CurvatureAccumulator):
        begin = kind.__init__

        def noted(self: Any, *args: Any, begin: Any = begin) -> None:
            devices.append(args[-1])
            begin(self, *args)

        monkeypatch.setattr(kind, "__init__", noted)
    monkeypatch.setattr(concept_module, "affordable", lambda *_: Footprint(4, False, on_host=True))
    found = attribute_concept(prompted(), METHODS[method])
    assert devices
    assert all(device is not None and device.type == "cpu" for device in devices)
    assert all(torch.equal(rows(found)[name], mass) for name, mass in rows(expected).items())


def test_gradients_are_made_where_the_pass_is_and_carried_to_the_sums() -> None:
    denoiser = tiny_denoiser("sd1", torch.float32)
    layers = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}
    masses = []
    for device in ("cpu", "meta"):  # a device that has no numbers, so nothing but the last step can be done there
        sums = GradientAccumulator(layers, 1, resident_weight, torch.float32, torch.device(device)).at(0, 1.0)
        squares = CurvatureAccumulator(layers, torch.float32, torch.device(device))
        assert {sum.device.type for sum in (*sums.gradients.values(), *squares.squares.values())} == {device}
        with captured_gradients(denoiser.unet, layers, sums) as anchor:
            x_t = torch.ones(1, 4, 8, 8)
            torch.autograd.grad(denoiser.eps(x_t, 500, conditioning("sd1", 0, torch.float32)).square().sum(), anchor)
        masses.append(sums.timestep_mass)
    assert all(torch.equal(masses[0][name], masses[1][name]) for name in layers)


def test_the_cpus_free_memory_is_the_systems() -> None:
    free = free_memory(torch.device("cpu"))
    assert free is not None
    with open("/proc/meminfo", encoding="ascii") as file:
        available = next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
    assert abs(free - available) < GIB
    assert free_memory(torch.device("meta")) is None
