"""Running out of memory: the work goes on with less of it, and finds the same."""

from __future__ import annotations

import logging
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cad_engine.concept import attribute_concept
from cad_engine.denoiser import Denoiser
from cad_engine.errors import CadError
from cad_engine.footprint import Footprint
from cad_engine.step_down import stepping_down
from tests.test_attribution import assert_close
from tests.test_rounds import SETTINGS, prompted
from tests.tiny_models import assert_unchanged, snapshot

PLAIN = replace(SETTINGS, keep=(), rounds=0, contexts=(), batch=4, trajectories=4)


def with_room_for(denoiser: Denoiser, samples: int, checkpointed_only: bool = False) -> None:
    """Let `denoiser` run out of memory, as a device does, where more samples are differentiated together, or activations are kept."""
    eps = denoiser.eps
    blocks = [module for module in denoiser.unet.modules() if type(module).__name__ == "BasicTransformerBlock"]

    def limited(x_t: Tensor, t: int | Tensor, c: object) -> Tensor:
        if torch.is_grad_enabled():
            checkpointed = "forward" in blocks[0].__dict__
            if len(x_t) > samples or (checkpointed_only and not checkpointed):
                raise torch.cuda.OutOfMemoryError("out of memory. Tried to allocate 2.00 GiB")
        return eps(x_t, t, c)

    denoiser.eps = limited  # type: ignore[method-assign]


@pytest.mark.parametrize("settings", [PLAIN, replace(PLAIN, objective="amplify", base=""), replace(SETTINGS, batch=4, rounds=1)])
def test_a_smaller_batch_finds_the_same(settings, caplog: pytest.LogCaptureFixture) -> None:
    expected = attribute_concept(prompted(), settings)
    denoiser = prompted()
    before = snapshot(denoiser)
    with_room_for(denoiser, 1)
    with caplog.at_level(logging.WARNING, "cad_engine"):
        found = attribute_concept(denoiser, settings)
    assert_unchanged(denoiser, before)
    told = [record.getMessage() for record in caplog.records if record.name == "cad_engine.step_down"]
    assert [line.split("with ")[1:] for line in told] == [
        ["batch 4; beginning again ", "batch 2"],
        ["batch 2; beginning again ", "batch 1"],
    ]
    assert (expected.info["batch"], found.info["batch"]) == (4, 1)
    for name, layer in expected.layers.items():
        assert_close({"rows": found.layers[name].row_mass}, {"rows": layer.row_mass}, 1e-5)


def test_at_one_sample_activations_are_computed_again() -> None:
    expected = attribute_concept(prompted(), PLAIN)
    denoiser = prompted()
    with_room_for(denoiser, 1, checkpointed_only=True)
    found = attribute_concept(denoiser, PLAIN)
    assert (found.info["batch"], found.info["checkpointing"]) == (1, True)
    for name, layer in expected.layers.items():
        assert_close({"rows": found.layers[name].row_mass}, {"rows": layer.row_mass}, 1e-5)


def test_when_nothing_smaller_is_left_it_says_what_to_do() -> None:
    denoiser = prompted()
    before = snapshot(denoiser)
    with_room_for(denoiser, 0)
    with pytest.raises(CadError, match=r"even with batch 1, checkpointing; attribute fewer components.*Tried to allocate 2.00 GiB"):
        attribute_concept(denoiser, PLAIN)
    assert_unchanged(denoiser, before)


def test_other_errors_are_not_taken_for_it() -> None:
    tried = []

    def work(footprint: Footprint) -> None:
        tried.append(footprint)
        raise RuntimeError("something else")

    with pytest.raises(RuntimeError, match="something else"):
        stepping_down(work, Footprint(8, False), host=True)
    assert tried == [Footprint(8, False)]


@pytest.mark.parametrize(
    "error",
    [
        torch.cuda.OutOfMemoryError("out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 8.00 GB)"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:117] . DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_every_device_says_it_in_its_own_way(error: RuntimeError) -> None:
    tried = []

    def work(footprint: Footprint) -> str:
        tried.append(footprint)
        if not footprint.on_host:
            raise error
        return "done"

    assert stepping_down(work, Footprint(2, False), host=True) == "done"
    assert tried == [Footprint(2, False), Footprint(1, False), Footprint(1, True), Footprint(1, True, True)]


def test_what_the_cpu_really_says_is_known() -> None:
    tried = []

    def work(footprint: Footprint) -> str:
        tried.append(footprint.batch)
        if footprint.batch > 1:
            torch.empty(2**60)
        return "done"

    assert stepping_down(work, Footprint(4, False), host=False) == "done"
    assert tried == [4, 2, 1]


@pytest.mark.parametrize("host", [False, True])
def test_the_footprints_on_the_way_down(host: bool) -> None:
    at: Footprint | None = Footprint(5, False)
    seen = []
    while at is not None:
        seen.append(str(at))
        at = at.smaller(host)
    on_host = ["batch 1, checkpointing, sums in host memory"] if host else []
    assert seen == ["batch 5", "batch 2", "batch 1", "batch 1, checkpointing", *on_host]
