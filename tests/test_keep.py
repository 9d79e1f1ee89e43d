"""Attribution per harm against plain autograd, one sample after the other, and the settings that ask for it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from cad_engine.attribution import Attribution, attribute, attribution_scores
from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.components import choose_layers
from cad_engine.concept import attribute_concept, concept_kept, concept_objective
from cad_engine.concept_settings import ConceptSettings
from cad_engine.erasure import edit_from_attribution
from cad_engine.errors import CadError
from cad_engine.harm import DAMPING, KEEP_WEIGHT, harm, per_harm, probe
from cad_engine.keep import States, kept_states, objective_states
from cad_engine.objective import Objective, erase_objective
from cad_engine.selection import select
from cad_engine.trajectory import Sampling, sample_trajectories
from tests.checkpoints.tiny_checkpoints import make_tiny
from tests.test_attribution import assert_close, plain_eps
from tests.test_cli import SMALL, run_quietly
from tests.test_files import rewrite
from tests.tiny_models import FAMILIES, assert_unchanged, conditioning, snapshot, tiny_denoiser

NUMBERS = {"a star": 1, "a shape": 2, "": 3, "a circle": 4, "a heart": 5, "a photo of a star": 6}
SETTINGS = ConceptSettings("a star", base="a shape", keep=("a circle", "a heart"), trajectories=3, steps=2, batch=2, seed=9)


class Prompted:
    """A tiny model whose prompts have random conditionings; notes which prompts it is asked for."""

    def __init__(self, family: str = "sd1", dtype: torch.dtype = torch.float64) -> None:
        self.denoiser, self.asked = tiny_denoiser(family, dtype), set()

        def encode(prompt: str):
            self.asked.add(prompt)
            return conditioning(family, NUMBERS[prompt], dtype)

        self.denoiser.encode_prompt = encode  # type: ignore[method-assign]


def plain_harm(denoiser, objective: Objective, kept: list[States], names: list[str], seed: int) -> dict[str, Tensor]:
    """h by autograd on the parameters, a sample at a time, in the order in which probes are numbered."""
    denoiser.unet.requires_grad_(True)
    parameters = [denoiser.layers[name].weight for name in names]
    sums = [torch.zeros_like(p) for p in parameters]
    number, count_kept = 0, sum(len(states) for states in kept)
    groups = [(states, 1.0 / len(states)) for states in [objective_states(objective)]] + [(s, KEEP_WEIGHT / count_kept) for s in kept]
    for states, share in groups:
        for t, x_t in zip(states.t.tolist(), states.x_t, strict=True):
            eps = plain_eps(denoiser, x_t[None].double(), t, states.conditioning)
            gradients = torch.autograd.grad((eps * probe(seed, number, x_t)).sum(), parameters)
            for total, p, g in zip(sums, parameters, gradients, strict=True):
                total += 2 * share * (p * g).detach().square() / x_t.numel()
            number += 1
    denoiser.unet.requires_grad_(False)
    return dict(zip(names, sums, strict=True))


@pytest.mark.parametrize("components", [("ff",), ("attention",), ("linear",)])
@pytest.mark.parametrize("family", FAMILIES)
def test_harm_and_score_equal_autograd(family: str, components: tuple[str, ...]) -> None:
    denoiser = Prompted(family).denoiser
    objective = concept_objective(denoiser, SETTINGS)
    kept = concept_kept(denoiser, SETTINGS, objective)
    names = choose_layers(denoiser.layers, components)
    before = snapshot(denoiser)
    ours = harm(denoiser, objective, kept, names, seed=9, batch=4)
    assert_unchanged(denoiser, before)
    plain = plain_harm(denoiser, objective, kept, names, seed=9)
    assert_close(ours, plain)

    scores, _ = attribution_scores(denoiser, objective, names)
    damping = DAMPING * torch.cat([h.flatten() for h in plain.values()]).mean()
    expected = {name: 2 * scores[name] / (plain[name] + damping) for name in names}
    assert_close(dict(per_harm(scores, ours)), expected)


def test_probes_estimate_the_squared_jacobian() -> None:
    """The mean over many probes of one state against the sum over all outputs of (w d eps / d w)^2, each output by itself."""
    denoiser = Prompted().denoiser
    name = choose_layers(denoiser.layers, ("cross_attention",))[0]
    one = concept_objective(denoiser, replace(SETTINGS, trajectories=1, steps=1))
    (target,) = one.targets
    many = replace(one, targets=[replace(target, x_t=target.x_t.repeat(150, 1, 1, 1), eps=target.eps.repeat(150, 1, 1, 1))])
    estimate = harm(denoiser, many, [objective_states(many)], [name], batch=50)[name] / (1 + KEEP_WEIGHT)

    weight = denoiser.layers[name].weight.requires_grad_(True)
    eps = plain_eps(denoiser, target.x_t.double(), target.t, one.conditioning).flatten()
    squares = [torch.autograd.grad(value, weight, retain_graph=True)[0].square() for value in eps]
    exact = (2 * weight.square() * torch.stack(squares).sum(dim=0) / eps.numel()).detach()
    assert float(estimate.sum()) == pytest.approx(float(exact.sum()), rel=0.15)
    assert torch.corrcoef(torch.stack([estimate.flatten(), exact.flatten()]))[0, 1] > 0.95


def test_probes_are_signs_and_each_its_own() -> None:
    like = torch.zeros(4, 8, 8)
    first, again, second, other = probe(1, 0, like), probe(1, 0, like), probe(1, 1, like), probe(3, 0, like)
    assert torch.equal(first, again)
    assert not torch.equal(first, second)
    assert not torch.equal(first, other)
    assert set(first.unique().tolist()) == {-1.0, 1.0}


def test_the_batch_changes_nothing() -> None:
    results = []
    for batch in (1, 4):
        settings = replace(SETTINGS, batch=batch)
        results.append(attribute_concept(Prompted().denoiser, settings))
    for name, one in results[0].layers.items():
        other = results[1].layers[name]
        assert torch.equal(one.index, other.index)
        torch.testing.assert_close(one.score, other.score, rtol=1e-4, atol=1e-6 * float(one.score.abs().max()))


def test_no_keep_list_is_the_papers_rule_to_the_bit() -> None:
    denoiser = Prompted().denoiser
    settings = replace(SETTINGS, keep=("", "  "))
    plain = attribute_concept(denoiser, settings)
    assert (plain.score, plain.info["keep"]) == ("attribution", [])
    concept, base, empty = (denoiser.encode_prompt(prompt) for prompt in ("a star", "a shape", ""))
    points, _ = sample_trajectories(denoiser, concept, empty, trajectories=3, steps=2, cfg=3.0, seed=9, batch=2, antithetic=True)
    objective = erase_objective(denoiser, concept, base, points, batch=2)
    scores, mass = attribution_scores(denoiser, objective, list(plain.layers), batch=2)
    for name, layer in plain.layers.items():
        dense = torch.zeros(layer.out_features * layer.in_features).index_put_((layer.index,), layer.score)
        assert torch.equal(dense.view(layer.out_features, -1), scores[name].float())
        assert torch.equal(layer.timestep_mass, mass[name].float())
        assert torch.equal(layer.row_mass[:, 0], scores[name].float().clamp(min=0).sum(dim=1))


@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_masses_stay_those_of_the_attribution_and_signs_too(objective: str) -> None:
    settings = replace(SETTINGS, objective=objective)  # type: ignore[arg-type]
    denoiser = Prompted().denoiser
    kept = attribute_concept(denoiser, settings)
    names = choose_layers(denoiser.layers, settings.components)
    plain = attribute(denoiser, concept_objective(denoiser, settings), names, info={"objective": objective}, batch=2)
    assert (kept.score, kept.info["score"]) == ("attribution per harm", "attribution per harm")
    assert kept.info["keep"] == ["a circle", "a heart"]
    for name, layer in plain.layers.items():
        other = kept.layers[name]
        assert torch.equal(layer.row_mass, other.row_mass)
        assert torch.equal(layer.timestep_mass, other.timestep_mass)
        assert torch.equal(layer.index, other.index)
        assert torch.equal(layer.score.sign(), other.score.sign())
        assert not torch.equal(layer.score.argsort(), other.score.argsort())


def harm_taken(attribution: Attribution, harms: dict[str, Tensor], ratio: float) -> float:
    return sum(float(harms[name].flatten()[index].sum()) for name, index in select(attribution, ratio, "global").items())


def test_ranking_per_harm_gains_as_much_for_less_harm() -> None:
    denoiser = Prompted().denoiser
    objective = concept_objective(denoiser, SETTINGS)
    kept = concept_kept(denoiser, SETTINGS, objective)
    per = attribute_concept(denoiser, SETTINGS)
    plain = attribute(denoiser, objective, list(per.layers), info={"objective": "erase"}, batch=2)
    harms = harm(denoiser, objective, kept, list(plain.layers), seed=1234)  # other probes than those that ranked
    assert harm_taken(per, harms, 0.005) < 0.5 * harm_taken(plain, harms, 0.005)


@pytest.mark.parametrize("objective", ["erase", "amplify"])
@pytest.mark.parametrize("base", ["a shape", ""])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_no_other_prompt_is_asked_for(objective: str, base: str, cfg: float) -> None:
    model = Prompted(dtype=torch.float32)
    settings = replace(SETTINGS, objective=objective, base=base, cfg=cfg, prompt="a photo of a star")  # type: ignore[arg-type]
    attribute_concept(model.denoiser, settings)
    assert model.asked == set(settings.prompts())


def test_what_is_kept_and_where() -> None:
    model = Prompted()
    objective = concept_objective(model.denoiser, SETTINGS)
    kept = concept_kept(model.denoiser, SETTINGS, objective)
    contexts = [states.conditioning.context for states in kept]  # type: ignore[attr-defined]
    expected = ["a circle", "", "a heart", "", "", "a shape", "a circle", "a heart"]
    for context, prompt in zip(contexts, expected, strict=True):
        assert torch.equal(context, conditioning("sd1", NUMBERS[prompt]).context)
    assert [len(states) for states in kept[:4]] == [4, 2, 4, 2]  # two pictures of two steps each; the empty prompt at half of them
    at_concept = objective_states(objective)
    everywhere = torch.cat([torch.cat([states.t[:, None], states.x_t.flatten(1)], dim=1) for states in kept[4:]])
    states = torch.cat([at_concept.t[:, None], at_concept.x_t.flatten(1)], dim=1)
    assert {tuple(row) for row in everywhere.tolist()} == {tuple(row) for row in states.tolist()}
    assert len({tuple(x.flatten().tolist()) for x in (kept[0].x_t[0], kept[2].x_t[0], at_concept.x_t[0])}) == 3  # no noise shared


@pytest.mark.parametrize("trajectories", [1, 4, 5])
def test_half_of_the_trajectories_are_the_base_prompts(trajectories: int) -> None:
    denoiser = Prompted().denoiser
    objective = concept_objective(denoiser, replace(SETTINGS, trajectories=trajectories))
    of_base = trajectories // 2
    x_t = objective.targets[1].x_t
    expected, first = [], 9
    for prompt, count in (("a star", trajectories - of_base), ("a shape", of_base)):
        if count:
            cond, empty = denoiser.encode_prompt(prompt), denoiser.encode_prompt("")
            points, _ = sample_trajectories(denoiser, cond, empty, trajectories=count, steps=2, cfg=3.0, seed=first)
            expected.append(points[1].x_t)
        first += count
    torch.testing.assert_close(x_t, torch.cat(expected))
    eps = denoiser.eps(x_t, objective.targets[1].t, denoiser.encode_prompt("a shape"))
    torch.testing.assert_close(objective.targets[1].eps, eps.detach())


def test_settings_of_the_keep_list() -> None:
    settings = replace(SETTINGS, keep=(" a circle", "", "a heart ", "a circle", "   "))
    assert settings.kept_prompts == ("a circle", "a heart")
    assert settings.prompts() == ("a star", "", "a shape", "a circle", "a heart")
    for same in ("a star", " A Star "):
        with pytest.raises(CadError, match="'a star' is also among the prompts to keep"):
            replace(SETTINGS, keep=("a circle", same)).check()


def test_stages_are_reported_to_their_end() -> None:
    seen: dict[str, list[tuple[int, int]]] = {}
    attribute_concept(Prompted().denoiser, SETTINGS, progress=lambda stage, done, total: seen.setdefault(stage, []).append((done, total)))
    assert list(seen) == ["sampling", "base", "keep", "attribution", "harm"]
    for stage, steps in seen.items():
        done = [number for number, _ in steps]
        assert done == sorted(done), stage
        assert len({total for _, total in steps}) == 1, stage
        assert (done[0], done[-1]) == (0, steps[0][1]), stage


@pytest.mark.parametrize("stage", ["keep", "harm"])
def test_interruption_leaves_the_model_unchanged(stage: str) -> None:
    denoiser = Prompted().denoiser
    before = snapshot(denoiser)

    def stop(at: str, done: int, total: int) -> None:
        if at == stage and done >= 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        attribute_concept(denoiser, SETTINGS, progress=stop)
    assert_unchanged(denoiser, before)


def test_a_model_without_effect_or_with_overflow_is_refused() -> None:
    denoiser = Prompted(dtype=torch.float32).denoiser
    names = choose_layers(denoiser.layers, ("ff",))
    objective = concept_objective(denoiser, SETTINGS)
    kept = concept_kept(denoiser, SETTINGS, objective)
    huge = [replace(states, x_t=states.x_t * float("inf")) for states in kept]
    with pytest.raises(CadError, match="is not finite"):
        harm(denoiser, objective, huge, names)
    with torch.no_grad():
        denoiser.unet.conv_out.weight.zero_()
    harms = harm(denoiser, objective, kept, names)
    with pytest.raises(CadError, match="so there is nothing to weigh"):
        per_harm(dict(harms), harms)
    with pytest.raises(CadError, match="no weight of the chosen layers has any effect on J"):
        attribute_concept(denoiser, SETTINGS)


def test_files_say_what_is_ranked(tmp_path: Path) -> None:
    attribution = attribute_concept(Prompted(dtype=torch.float32).denoiser, SETTINGS)
    path = tmp_path / "a.safetensors"
    save_attribution(path, attribution)
    loaded = load_attribution(path)
    assert (loaded.score, loaded.info) == (attribution.score, attribution.info)
    for name, layer in attribution.layers.items():
        assert torch.equal(layer.score, loaded.layers[name].score)
        assert torch.equal(layer.histogram, loaded.layers[name].histogram)
    assert edit_from_attribution(loaded, 0.01, "global").info["method"] == "first order per harm, one shot"

    rewrite(path, metadata={"info": {**attribution.info, "score": "beauty"}})
    with pytest.raises(CadError, match="its score must be one of attribution, attribution per harm, effect, got 'beauty'"):
        load_attribution(path)
    older = {key: value for key, value in attribution.info.items() if key not in ("score", "keep")}
    rewrite(path, metadata={"info": older})
    assert load_attribution(path).score == "attribution"


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    checkpoint, out = str(make_tiny("sd1").save(tmp_path / "tiny.safetensors")), tmp_path / "star.safetensors"
    small = ["--trajectories", "1", "--steps", "2", *SMALL]
    common = ["attribute", checkpoint, "--concept", "a star", "--method", "per-harm", *small, "--out", str(out)]
    assert run_quietly([*common, "--keep", "a circle", "--keep", "", "--keep", "a heart", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert (result["keep"], result["score"]) == (["a circle", "a heart"], "attribution per harm")
    assert load_attribution(out).info["keep"] == ["a circle", "a heart"]
    assert run_quietly([*common, "--keep", "a star"]) == 2
    assert "is also among the prompts to keep" in capsys.readouterr().err


def test_few_pictures_of_each_of_many_prompts() -> None:
    model = Prompted(dtype=torch.float32)
    objective = concept_objective(model.denoiser, replace(SETTINGS, trajectories=1))
    sampling = Sampling(5, 2, cfg=3.0, seed=0, batch=4, spacing="trailing", latent_shape=model.denoiser.latent_shape)
    one = kept_states(model.denoiser, ["a circle"], "", objective, sampling)
    assert len(one[0]) == 10
    two = kept_states(model.denoiser, ["a circle", "a heart"], "", objective, sampling)
    assert [len(states) for states in two[:4:2]] == [6, 6]
