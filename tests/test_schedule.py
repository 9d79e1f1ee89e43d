"""Timesteps of sampling."""

from __future__ import annotations

import pytest
from diffusers import DDIMScheduler

from cad_engine.errors import CadError
from cad_engine.schedule import NoiseSchedule, Spacing


@pytest.mark.parametrize("steps", [1, 5, 7, 20, 50])
@pytest.mark.parametrize("spacing", ["trailing", "leading"])
def test_they_are_those_of_diffusers(spacing: Spacing, steps: int) -> None:
    scheduler = DDIMScheduler(timestep_spacing=spacing, steps_offset=1)
    scheduler.set_timesteps(steps)
    assert NoiseSchedule.scaled_linear().ddim_timesteps(steps, spacing) == scheduler.timesteps.tolist()


def test_centred_ones_are_the_middles_of_equal_parts() -> None:
    schedule = NoiseSchedule.scaled_linear()
    assert schedule.ddim_timesteps(5, "centred") == [900, 700, 500, 300, 100]
    assert schedule.ddim_timesteps(1, "centred") == [500]
    for steps in (3, 7, 10, 50):
        times = schedule.ddim_timesteps(steps, "centred")
        assert len(times) == steps
        assert abs(sum(times) / steps - 499.5) < 1  # the mean of all timesteps, which the ends of the parts are not near
    assert schedule.ddim_timesteps(1000, "centred") == list(reversed(range(1000)))


def test_only_centred_ones_are_led_to() -> None:
    schedule = NoiseSchedule.scaled_linear()
    assert [schedule.lead(5, spacing) for spacing in ("centred", "trailing", "leading")] == [999, None, None]
    assert schedule.lead(1000, "centred") is None  # it begins there


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_count_that_the_schedule_does_not_have_is_refused(steps: int) -> None:
    with pytest.raises(CadError, match=f"between 1 and 1000.*got {steps}"):
        NoiseSchedule.scaled_linear().ddim_timesteps(steps, "centred")


def test_an_unknown_spacing_is_refused() -> None:
    with pytest.raises(CadError, match="centred, trailing or leading, got 'linspace'"):
        NoiseSchedule.scaled_linear().ddim_timesteps(5, "linspace")  # type: ignore[arg-type]
