"""Attribution against plain autograd, written out independently of the engine."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from cad_engine.attribution import attribution_scores
from cad_engine.components import choose_layers
from cad_engine.errors import CadError
from cad_engine.gradients import captured_gradients
from cad_engine.objective import amplify_objective, erase_objective
from cad_engine.trajectory import sample_trajectories
from tests.tiny_models import FAMILIES, assert_unchanged, conditioning, snapshot, tiny_denoiser, weights


def plain_eps(denoiser, x_t: Tensor, t: int, cond) -> Tensor:
    """eps straight from the diffusers UNet, v converted by the textbook formula."""
    size = x_t.shape[-1] * denoiser.vae_scale
    extra = None
    if cond.pooled is not None:
        time_ids = torch.tensor([[size, size, 0, 0, size, size]], dtype=x_t.dtype).repeat(len(x_t), 1)
        extra = {"text_embeds": cond.pooled.repeat(len(x_t), 1), "time_ids": time_ids}
    output = denoiser.unet(x_t, t, cond.context.repeat(len(x_t), 1, 1), added_cond_kwargs=extra).sample
    if denoiser.prediction == "v_prediction":
        alpha = denoiser.schedule.alphas_cumprod[t].double()
        return alpha.sqrt() * output + (1 - alpha).sqrt() * x_t
    return output


def plain_scores(denoiser, loss: Tensor, names: list[str]) -> dict[str, Tensor]:
    """w * dJ/dw of `loss` by autograd; the parameters must require grad."""
    parameters = [denoiser.layers[name].weight for name in names]
    gradients = torch.autograd.grad(loss, parameters)
    return {name: (p * g).detach() for name, p, g in zip(names, parameters, gradients, strict=True)}


def assert_close(ours: dict[str, Tensor], plain: dict[str, Tensor], tolerance: float = 1e-6) -> None:
    assert ours.keys() == plain.keys()
    for name in plain:
        error = (ours[name] - plain[name]).norm() / plain[name].norm()
        assert error < tolerance, f"{name}: relative error {error}"
        assert plain[name].abs().max() > 0


@pytest.mark.parametrize("components", [["ff"], ["attention"], ["linear"]])
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("checkpointing", [False, True])
def test_erase_attribution_equals_autograd(family: str, components: list[str], checkpointing: bool) -> None:
    denoiser = tiny_denoiser(family)
    concept, base = conditioning(family, 1), conditioning(family, 2)
    points, _ = sample_trajectories(denoiser, concept, base, trajectories=3, steps=2, batch=2)
    objective = erase_objective(denoiser, concept, base, points, batch=2)
    names = choose_layers(denoiser.layers, components)
    before = snapshot(denoiser)
    ours, timestep_mass = attribution_scores(denoiser, objective, names, batch=2, checkpointing=checkpointing)
    assert_unchanged(denoiser, before)

    denoiser.unet.requires_grad_(True)
    losses = []
    for point in points:
        with torch.no_grad():
            target = plain_eps(denoiser, point.x_t.double(), point.t, base)
        eps = plain_eps(denoiser, point.x_t.double(), point.t, concept)
        losses.append((target - eps).square().mean())
    plain = plain_scores(denoiser, torch.stack(losses).mean(), names)
    assert_close(ours, plain)
    assert objective.value(denoiser) == pytest.approx(torch.stack(losses).mean().item(), rel=1e-9)
    for name in names:  # the timesteps' positive and negative sums add up to the net attribution
        assert float(timestep_mass[name].sum()) == pytest.approx(float(plain[name].sum()), abs=1e-6 * float(plain[name].abs().sum()))


@pytest.mark.parametrize("family", FAMILIES)
def test_amplify_attribution_equals_autograd(family: str) -> None:
    denoiser = tiny_denoiser(family)
    concept = conditioning(family, 1)
    latents = torch.randn(3, *denoiser.latent_shape, dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    objective = amplify_objective(denoiser, concept, latents, steps=2, seed=3)
    names = choose_layers(denoiser.layers, ["ff"])
    ours, _ = attribution_scores(denoiser, objective, names, batch=2)

    denoiser.unet.requires_grad_(True)
    losses = []
    for target in objective.targets:
        alpha = denoiser.schedule.alphas_cumprod[target.t].double()
        x_t = alpha.sqrt() * latents + (1 - alpha).sqrt() * target.eps
        losses.append(-(target.eps - plain_eps(denoiser, x_t, target.t, concept)).square().mean())
    assert_close(ours, plain_scores(denoiser, torch.stack(losses).mean(), names))


def test_base_equal_to_unconditional_is_not_computed_again() -> None:
    denoiser = tiny_denoiser()
    concept, empty = conditioning("sd1", 1), conditioning("sd1", 2)
    points, _ = sample_trajectories(denoiser, concept, empty, trajectories=2, steps=2)
    calls = []
    original = denoiser.eps
    denoiser.eps = lambda *a: calls.append(1) or original(*a)  # type: ignore[method-assign]
    reused = erase_objective(denoiser, concept, None, points)
    assert calls == []
    computed = erase_objective(denoiser, concept, empty, points)
    for one, other in zip(reused.targets, computed.targets, strict=True):
        torch.testing.assert_close(one.eps, other.eps)


def test_works_on_inference_tensors() -> None:
    expected_model = tiny_denoiser(dtype=torch.float32)
    with torch.inference_mode():
        denoiser = tiny_denoiser(dtype=torch.float32)
        concept, base = conditioning("sd1", 1, torch.float32), conditioning("sd1", 2, torch.float32)
        assert denoiser.layers["diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.weight"].weight.is_inference()
        points, _ = sample_trajectories(denoiser, concept, base, trajectories=2, steps=2)
        with torch.inference_mode(False):
            points = [type(p)(p.t, p.x_t.clone(), p.eps_uncond.clone()) for p in points]
            concept = type(concept)(concept.context.clone(), None)
            objective = erase_objective(denoiser, concept, None, points)
            names = choose_layers(denoiser.layers, ["ff"])
            ours, _ = attribution_scores(denoiser, objective, names)
    expected, _ = attribution_scores(expected_model, objective, names)
    for name in names:
        torch.testing.assert_close(ours[name], expected[name])


@pytest.mark.parametrize("stop_after", [0, 1, 3])
@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_interruption_leaves_the_model_unchanged(error: type[BaseException], stop_after: int) -> None:
    denoiser = tiny_denoiser()
    concept, base = conditioning("sd1", 1), conditioning("sd1", 2)
    points, _ = sample_trajectories(denoiser, concept, base, trajectories=2, steps=2)
    objective = erase_objective(denoiser, concept, base, points)
    before = snapshot(denoiser)

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "attribution" and done >= stop_after:
            raise error("stop")

    with pytest.raises(error):
        attribution_scores(denoiser, objective, choose_layers(denoiser.layers, ["ff"]), batch=1, progress=stop)
    assert_unchanged(denoiser, before)


def test_an_error_inside_backward_leaves_the_model_unchanged() -> None:
    denoiser = tiny_denoiser()
    before = snapshot(denoiser)

    def sink(name: str, x: Tensor, g: Tensor) -> None:
        raise KeyboardInterrupt

    targets = {name: denoiser.layers[name] for name in choose_layers(denoiser.layers, ["ff"])}

    def interrupted_pass() -> None:
        with captured_gradients(denoiser.unet, targets, sink) as anchor:
            output = denoiser.eps(torch.randn(1, *denoiser.latent_shape), 500, conditioning("sd1", 1))
            torch.autograd.grad(output.square().sum(), anchor)

    with pytest.raises(KeyboardInterrupt):
        interrupted_pass()
    assert_unchanged(denoiser, before)


def test_trajectories_do_not_depend_on_the_batch() -> None:
    denoiser = tiny_denoiser()
    concept, base = conditioning("sd1", 1), conditioning("sd1", 2)
    one, x_one = sample_trajectories(denoiser, concept, base, trajectories=3, steps=3, batch=1, seed=7)
    all_, x_all = sample_trajectories(denoiser, concept, base, trajectories=3, steps=3, batch=3, seed=7)
    torch.testing.assert_close(x_one, x_all)
    for a, b in zip(one, all_, strict=True):
        assert a.t == b.t
        torch.testing.assert_close(a.x_t, b.x_t)


def test_a_latent_is_kept_with_its_own_timestep() -> None:
    """The first point is pure noise at the last timestep; each x_t denoised at its t gives the next (DDIM by diffusers)."""
    from diffusers import DDIMScheduler

    denoiser = tiny_denoiser()
    concept, base = conditioning("sd1", 1), conditioning("sd1", 2)
    points, final = sample_trajectories(denoiser, concept, base, trajectories=1, steps=5, cfg=3.0, seed=1)
    scheduler = DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", timestep_spacing="trailing", clip_sample=False
    )
    scheduler.set_timesteps(5)
    x = points[0].x_t
    for point, t in zip(points, scheduler.timesteps, strict=True):
        assert point.t == int(t)
        torch.testing.assert_close(point.x_t.double(), x.double(), rtol=1e-5, atol=1e-6)
        cond, uncond = plain_eps(denoiser, x.double(), int(t), concept), plain_eps(denoiser, x.double(), int(t), base)
        x = scheduler.step(uncond + 3.0 * (cond - uncond), int(t), x.double()).prev_sample
    torch.testing.assert_close(final.double(), x, rtol=1e-4, atol=1e-5)


def test_weights_are_the_models_own() -> None:
    denoiser = tiny_denoiser()
    assert all(weight.data_ptr() == denoiser.layers[name].weight.data_ptr() for name, weight in weights(denoiser).items())


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 0.01), (torch.bfloat16, 0.05)])
def test_half_precision_is_close(dtype: torch.dtype, tolerance: float) -> None:
    """The same half-precision weights, computed in half and in double precision."""
    half, exact = tiny_denoiser(dtype=dtype), tiny_denoiser(dtype=dtype)
    exact.unet.double()
    concept, base = conditioning("sd1", 1), conditioning("sd1", 2)
    points, _ = sample_trajectories(exact, concept, base, trajectories=2, steps=2)
    objective = erase_objective(exact, concept, base, points)
    names = choose_layers(exact.layers, ["ff"])
    expected, _ = attribution_scores(exact, objective, names)
    as_float = type(objective)("erase", concept, [type(t)(t.t, t.x_t.float(), t.eps.float()) for t in objective.targets])
    ours, _ = attribution_scores(half, as_float, names)
    everything = torch.cat([expected[name].flatten() for name in names])
    difference = torch.cat([(ours[name].double() - expected[name]).flatten() for name in names])
    assert ours[names[0]].dtype == torch.float32
    assert difference.norm() < tolerance * everything.norm()


def test_an_overflow_is_an_error_not_a_result() -> None:
    denoiser = tiny_denoiser(dtype=torch.float32)
    concept, base = conditioning("sd1", 1), conditioning("sd1", 2)
    points, _ = sample_trajectories(denoiser, concept, base, trajectories=1, steps=1)
    objective = erase_objective(denoiser, concept, base, points)
    broken = type(objective)("erase", concept, [type(t)(t.t, t.x_t, t.eps * float("inf")) for t in objective.targets])
    with pytest.raises(CadError, match="is not finite"):
        attribution_scores(denoiser, broken, choose_layers(denoiser.layers, ["ff"]))
