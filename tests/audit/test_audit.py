"""Audits on the real sandbox: an edit that suppresses, one that does nothing, and one after which no prompt means anything."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from cad_engine.audit.attack import attack, attack_states
from cad_engine.audit.audit import Audit, run_audit
from cad_engine.audit.audit_report import NOT_COUNTED, audit_report, summary, write_audit
from cad_engine.audit.diffusers_studio import DiffusersStudio
from cad_engine.audit.settings import AuditSettings
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import attribute_concept
from cad_engine.edit import Edit, LayerEdit
from cad_engine.edit_file import save_edit
from cad_engine.erasure import edit_from_attribution
from cad_engine.errors import CadError
from cad_engine.measures.sandbox import SandboxConcept, SandboxRight
from cad_engine.report.html import render_report
from cad_engine.sandbox.demo import DemoSettings, rounds_settings
from cad_engine.sandbox.judge import Judge
from tests.test_cli import run
from tests.tiny_models import assert_unchanged, snapshot

SMALL = AuditSettings(
    "star",
    ("a red star", "a blue star in dotted style"),
    ("a red circle", "a green heart"),
    base="shape",
    count=3,
    steps=10,
    cfg=3.0,
    batch=12,
    iterations=0,
    amplify=False,
)


@pytest.fixture(scope="module")
def denoiser() -> DiffusersDenoiser:
    return load_model("sandbox")


@pytest.fixture(scope="module")
def star(denoiser: DiffusersDenoiser) -> Edit:
    """What rounds find for the star in a hurry."""
    settings = rounds_settings(denoiser, DemoSettings("star"))
    return edit_from_attribution(attribute_concept(denoiser, replace(settings, rounds=2, trajectories=6)), None)


def deaf(denoiser: DiffusersDenoiser) -> Edit:
    """Every value of cross-attention set to zero: the model hears no prompt."""
    layers = {name: layer for name, layer in denoiser.layers.items() if name.endswith("attn2.to_v.weight")}
    return Edit({name: LayerEdit(*layer.weight.shape, torch.arange(layer.weight.numel())) for name, layer in layers.items()})


def audited(denoiser: DiffusersDenoiser, edit: Edit, settings: AuditSettings = SMALL) -> Audit:
    before = snapshot(denoiser)
    found = run_audit(DiffusersStudio(denoiser, edit, settings), settings, [SandboxConcept("star")], [SandboxRight()])
    assert_unchanged(denoiser, before)
    return found


@pytest.mark.slow
def test_the_search_finds_in_half_precision_what_it_finds_in_full(denoiser: DiffusersDenoiser) -> None:
    losses = {}
    for model in (denoiser, load_model("sandbox", dtype=torch.float16)):
        states = attack_states(model, "a red star", 3, 2, steps=4, cfg=3.0, batch=8)
        found = attack(model, model.encode_prompt("a red circle"), states, iterations=20, batch=8, seed=0)
        embedding = model.embedding(found.conditioning)
        assert torch.isfinite(embedding).all()
        assert embedding.dtype == model.unet.dtype
        losses[model.unet.dtype] = torch.tensor(found.losses)
    assert losses[torch.float32][-1] < 0.5 * losses[torch.float32][0]
    torch.testing.assert_close(losses[torch.float16], losses[torch.float32], rtol=0.1, atol=0.02 * float(losses[torch.float32][0]))


def test_a_picture_that_is_not_finite_is_none_without_the_concept(denoiser: DiffusersDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    def overflowing(*args: object, **options: object) -> Tensor:
        return torch.full((6, 3, 64, 64), float("nan"))

    studio = DiffusersStudio(denoiser, deaf(denoiser), SMALL)
    monkeypatch.setattr(studio, "paint", overflowing)
    with pytest.raises(CadError, match="not finite"):
        run_audit(studio, SMALL, [SandboxConcept("star")])


def test_measures_that_cannot_work_say_so_before_much_is_painted(denoiser: DiffusersDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    studio, painted = DiffusersStudio(denoiser, deaf(denoiser), SMALL), []
    monkeypatch.setattr(studio, "paint", lambda texts, *_, **__: painted.append(texts) or torch.zeros(len(texts), 3, 128, 128))
    with pytest.raises(CadError, match="64 x 64"):
        run_audit(studio, SMALL, [SandboxConcept("star")])
    assert len(painted) == 1
    with pytest.raises(CadError, match="two of the measures are both called"):
        run_audit(studio, SMALL, [SandboxConcept("star"), SandboxConcept("star")])
    assert len(painted) == 1


def test_a_suppressed_concept_is_brought_back_by_the_attack(denoiser: DiffusersDenoiser, star: Edit, tmp_path: Path) -> None:
    settings = replace(SMALL, iterations=60, amplify=True, ratio=0.02, paraphrases=("a red five-pointed figure",))
    found = audited(denoiser, star, settings)
    (verdict,) = found.verdicts.values()
    assert verdict.word in ("suppressed", "partly suppressed")
    names = [attempt.name for attempt in found.attempts]
    assert names == [
        "other words",
        "an embedding found by gradient from the concept's own prompt",
        "an embedding found by gradient from the base prompt",
        "CAD-Amplify",
    ]
    assert set(verdict.brought_back) >= {names[1]}
    assert "It can be brought back by" in summary(found)
    measures = ([SandboxConcept("star")], [SandboxRight()])
    results = write_audit(tmp_path / "audit", found, measures, {"model": "sandbox"})
    recount(tmp_path / "audit", results)


def test_words_that_the_model_does_not_know_are_no_attempt(denoiser: DiffusersDenoiser) -> None:
    found = audited(denoiser, deaf(denoiser), replace(SMALL, paraphrases=("a red circle",)))
    (verdict,) = found.verdicts.values()
    (attempt,) = found.attempts
    assert attempt.unedited is not None
    assert len(attempt.unedited.pictures) == len(attempt.painted.pictures) == SMALL.count
    assert verdict.word == "suppressed"
    assert "Nothing that was tried" not in verdict.sentence
    assert "brought back by other words" not in verdict.sentence


def recount(folder: Path, results: dict[str, object]) -> None:
    """Every count of results.json, from the PNG files alone."""
    written = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert written == results
    judge = Judge.load()
    (shown,) = written["shown"].values()
    groups = {"before": "before", "after": "after"}
    for number, attempt in enumerate(written["attempts"], start=1):
        groups |= {attempt["name"]: f"attempt {number}", f"{attempt['name']}, without the edit": f"attempt {number} before"}
    for entry in shown:
        files = [folder / picture["file"] for picture in written["pictures"][groups[entry["in"]]]]
        pixels = [torch.from_numpy(np.asarray(Image.open(file)).copy()).permute(2, 0, 1) / 255 for file in files]
        seen = sum(verdict.shows("star") for verdict in judge.look(torch.stack(pixels)))
        assert (seen, len(files)) == (entry["pictures"], entry["of"]), entry
    for number, each in enumerate(written["drift"]):
        sides = [
            np.stack([np.asarray(Image.open(folder / picture["file"]), dtype=float) / 255 for picture in written["pictures"][side]])
            for side in ("kept before", "kept after")
        ]
        part = slice(3 * number, 3 * number + 3)
        assert each["distance"] == pytest.approx(float(np.sqrt(((sides[0][part] - sides[1][part]) ** 2).mean())), abs=1e-6)


def test_an_edit_that_does_nothing(denoiser: DiffusersDenoiser) -> None:
    found = audited(denoiser, Edit({}))
    (verdict,) = found.verdicts.values()
    assert verdict.word == "not suppressed"
    assert torch.equal(found.concept.pictures, found.concept_after.pictures)
    assert [each.distance for each in found.drift] == [0, 0]
    assert all(each.yardstick is not None and each.yardstick > 0.01 for each in found.drift)


def test_when_no_prompt_is_heard_any_more_no_embedding_helps_either(denoiser: DiffusersDenoiser, tmp_path: Path) -> None:
    found = audited(denoiser, deaf(denoiser), replace(SMALL, iterations=3))
    (verdict,) = found.verdicts.values()
    assert verdict.brought_back == ()
    assert torch.equal(found.attempts[0].painted.pictures[:3], found.attempts[1].painted.pictures[:3])
    right = found.values[SandboxRight.name]
    assert sum(right["kept before"]) >= 5
    assert sum(right["kept after"]) <= 2
    assert all(each.yardstick is not None and each.distance > 2 * each.yardstick for each in found.drift)
    recount(tmp_path / "audit", write_audit(tmp_path / "audit", found, ([SandboxConcept("star")], [SandboxRight()]), {}))


def test_pictures_are_those_of_cad_generate(denoiser: DiffusersDenoiser, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = audited(denoiser, Edit({}))
    arguments = ["--prompt", "a red star", "--count", "3", "--steps", "10", "--cfg", "3", "--out", str(tmp_path)]
    assert run(capsys, "generate", "sandbox", *arguments)[0] == 0
    for number, path in enumerate(sorted(tmp_path.glob("*.png"))):
        painted = (found.concept.pictures[number] * 255).round().permute(1, 2, 0)
        assert np.abs(np.asarray(Image.open(path)).astype(int) - painted.numpy()).max() <= 1


def test_without_a_measure_nothing_is_claimed(denoiser: DiffusersDenoiser) -> None:
    found = run_audit(DiffusersStudio(denoiser, Edit({}), SMALL), SMALL, [], [])
    assert summary(found) == NOT_COUNTED
    page = render_report(audit_report(found, ([], []), {}))
    assert "uppressed" not in page.replace("not suppressed", "")


class Brightness:
    """A measure that only compares."""

    name, counts = "brightness <img onerror=alert(1)>", False

    def values(self, pictures: Tensor, prompts: Sequence[str]) -> Tensor:
        return pictures.mean(dim=(1, 2, 3))


def test_measures_that_only_compare_and_hostile_words(denoiser: DiffusersDenoiser) -> None:
    hostile = "</script><script>alert(1)</script> " + "a star " * 50
    settings = replace(SMALL, concept="<img src=x onerror=alert(1)>", prompts=(hostile,), keep=(), count=1)
    found = run_audit(DiffusersStudio(denoiser, Edit({}), settings), settings, [Brightness()], [])
    assert found.verdicts == {}
    assert found.drift == ()
    page = render_report(audit_report(found, ([Brightness()], []), {"model": "<b>"}))
    assert not re.search(r"<(img src=x|script>|b>)", page)
    assert "&lt;img src=x onerror=alert(1)&gt;" in page


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"prompts": ()}, "no prompt that asks for the concept"),
        ({"concept": " "}, "the concept is empty"),
        ({"count": 0}, "count must be at least 1, got 0"),
        ({"iterations": -1}, "at least 0, got -1"),
        ({"cfg": 0.5}, "cfg must be at least 1, got 0.5"),
        ({"cfg": float("nan")}, "cfg must be at least 1, got nan"),
        ({"ratio": 1.5}, r"must be in \(0, 1\], got 1.5"),
    ],
)
def test_what_makes_no_sense(denoiser: DiffusersDenoiser, changed: dict[str, object], message: str) -> None:
    with pytest.raises(CadError, match=message):
        run_audit(DiffusersStudio(denoiser, Edit({}), SMALL), replace(SMALL, **changed), [])  # type: ignore[arg-type]


def test_evaluations_are_told_to_the_last(denoiser: DiffusersDenoiser, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = replace(SMALL, iterations=2, amplify=True, ratio=0.02, paraphrases=("a five-pointed figure",))
    made, plain = [0], denoiser.eps

    def counting(x_t: Tensor, t: int | Tensor, conditioning: object) -> Tensor:
        made[0] += len(x_t) * (3 if torch.is_grad_enabled() else 1)
        return plain(x_t, t, conditioning)  # type: ignore[arg-type]

    monkeypatch.setattr(denoiser, "eps", counting)
    run_audit(DiffusersStudio(denoiser, Edit({}), settings), settings, [])
    assert made[0] == settings.evaluations()


def test_the_command(star: Edit, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, out, prompts = tmp_path / "star.safetensors", tmp_path / "audit", tmp_path / "prompts.txt"
    save_edit(file, star)
    prompts.write_text("a red star\n\na blue star\n", encoding="utf-8")
    arguments = ["audit", "sandbox", "--edit", str(file), "--prompt", f"@{prompts}", "--count", "2", "--steps", "6", "--cfg", "3"]
    arguments += ["--attack", "0", "--no-amplify", "--json", "--out"]
    code, text, err = run(capsys, *arguments, str(out))
    assert code == 0, err
    results = json.loads(text)
    assert results == json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["settings"]["prompts"] == ["a red star", "a blue star"]
    assert (results["settings"]["base"], len(results["settings"]["keep"])) == ("shape", 9)  # the sandbox's own mix, without "a blue star"
    assert (out / "index.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    code, _, err = run(capsys, *arguments, str(out))
    assert (code, "is not an empty folder" in err) == (2, True)
    for extra, message in (
        (["--measure", "beauty"], "there is no measure 'beauty'"),
        (["--measure", "clip:nowhere"], "there is no folder nowhere"),
        (["--measure", "nudity:listed"], "the preset of nudity must be one of core, paper, all"),
        (["--concept", "dog", "--measure", "sandbox"], "the sandbox does not know the concept 'dog'"),
        (["--prompt", "@nowhere.txt"], "cannot read the prompts in nowhere.txt"),
    ):
        code, _, err = run(capsys, *arguments, str(tmp_path / "other"), *extra)
        assert (code, err.count("\n")) == (2, 1), err
        assert message in err
    assert not (tmp_path / "other").exists()
