"""The table of methods that erase: measures, work folder, attack and page, on the real sandbox."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import erase
from benchmarks.erasing import amplify, cases, page, run, settings, unedited
from benchmarks.erasing.cells import CellKey, cell_path, load_cell, load_shown, shown_verdicts
from benchmarks.erasing.pareto import frontier
from benchmarks.erasing.restoring import ModelNotRestoredError, model_digest, unchanged_after, weights_digest
from benchmarks.erasing.rows import concept_rows, kinds_of, method_rows
from benchmarks.erasing.run import Run, Watcher
from benchmarks.erasing.settings import AttackSettings, MeasureSettings
from benchmarks.erasing.task import Outcome, Task, keep_list, named_parts, task, unnamed_parts
from cad_engine.audit.attack import attack, attack_states
from cad_engine.audit.wilson import wilson_interval
from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.checkpoints.load import load_model
from cad_engine.errors import CadError
from cad_engine.generate import paint_conditionings
from cad_engine.progress import Progress
from cad_engine.report.html import render_report
from cad_engine.sandbox.captions import PARAPHRASES, random_caption
from cad_engine.sandbox.evaluation import Painted, paint
from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.world import Scene

PICTURES = 4
SETTINGS = MeasureSettings(pictures=PICTURES, attack=None)


@dataclass(frozen=True)
class WeakerKeys:
    """Scales what cross-attention reads of the prompt: rough, but pictures change."""

    factor: float = 0.5

    @torch.no_grad()
    def __call__(self, denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
        keys = [layer.weight for name, layer in denoiser.layers.items() if name.endswith("attn2.to_k.weight")]
        progress("weaker keys", 0, 1)
        for weight in keys:
            weight.mul_(self.factor)
        progress("weaker keys", 1, 1)
        return Outcome(sum(weight.numel() for weight in keys), 7)


@pytest.fixture(scope="module")
def denoiser() -> DiffusersDenoiser:
    return load_model("sandbox")


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge.load()


@pytest.fixture(autouse=True, scope="module")
def _threads_afterwards() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def finished(denoiser: DiffusersDenoiser, judge: Judge, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, run.Table]:
    """One method on two concepts, undisturbed."""
    made = Run(denoiser, judge, {"weaker keys": WeakerKeys()}, ["star", "red"], [0], SETTINGS, tmp_path_factory.mktemp("finished"))
    return made, made.table()


def without_times(value: Any) -> Any:
    """`value` without what differs from run to run."""
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in ("seconds", "cpu_seconds")}
    return [without_times(item) for item in value] if isinstance(value, list) else value


@pytest.mark.parametrize(
    ("hits", "of", "low", "high"),
    [(0, 10, 0.0, 0.2775), (5, 10, 0.2366, 0.7634), (8, 10, 0.4902, 0.9433), (10, 10, 0.7225, 1.0), (1, 51, 0.0035, 0.1030)],
)
def test_wilson_interval_of_published_examples(hits: int, of: int, low: float, high: float) -> None:
    assert wilson_interval(hits, of) == pytest.approx((low, high), abs=6e-5)
    # Its ends are the shares p that lie just z standard deviations, taken at p, from the one observed.
    for end in wilson_interval(hits, of):
        if 0 < end < 1:
            assert abs(hits / of - end) / (end * (1 - end) / of) ** 0.5 == pytest.approx(1.959964, rel=1e-5)


@pytest.mark.parametrize(("hits", "of"), [(-1, 5), (6, 5), (0, 0)])
def test_wilson_interval_refuses_what_is_no_share(hits: int, of: int) -> None:
    with pytest.raises(ValueError, match=f"got {hits} of {of}"):
        wilson_interval(hits, of)


@pytest.mark.parametrize("concept", erase.CONCEPTS)
def test_cases_are_of_the_words_they_should_be_of(concept: str) -> None:
    for named, parts in ((True, named_parts(concept)), (False, unnamed_parts(concept))):
        made = cases.rest_cases(concept, named, 40, 0)
        for kind, words in parts.items():
            assert {getattr(case.scene, kind) for case in made} == set(words)
    told = " ".join((*keep_list(concept), task(concept, 0).prompt))
    assert not any(word in told for words in unnamed_parts(concept).values() for word in words)
    for case in cases.paraphrased_cases(concept, 30, 0):
        assert PARAPHRASES[concept] in case.prompt
        assert not re.search(rf"\b{concept}\b", case.prompt)
        assert concept in (case.scene.shape, case.scene.colour, case.scene.style)
    for case, word in cases.two_concept_cases(concept, 30, 0):
        assert concept in case.prompt
        assert word in case.prompt
        assert word in told
        assert word != concept


def test_sentences_are_those_of_the_training_captions() -> None:
    rng, scene = np.random.default_rng(0), Scene("arrow", "red", "outline")
    captions = {random_caption(scene, rng) for _ in range(3000)}
    assert {sentence("arrow", "red", "outline") for sentence in cases.SENTENCES.values()} <= captions
    assert {sentence("arrow", "", "") for sentence in cases.SENTENCES.values()} == {
        "arrow",
        "an arrow",
        "a photo of an arrow",
        "a picture of an arrow",
    }


def test_no_two_measures_share_a_seed() -> None:
    seeds = [cases.first_seed(measure, seed) + i for measure in cases.MEASURES for seed in (0, 1, 2) for i in range(100)]
    assert len(set(seeds)) == len(seeds)
    assert min(seeds) >= 3_000_000


def test_a_cell_agrees_with_its_numbers_computed_apart(denoiser: DiffusersDenoiser, judge: Judge, finished: tuple[Run, run.Table]) -> None:
    made, _ = finished
    cell = made.loaded(CellKey("weaker keys", "star", 0))
    assert cell is not None
    parts = {
        "target": cases.concept_cases("star", PICTURES, 0),
        "named": cases.rest_cases("star", True, PICTURES, 0),
        "unnamed": cases.rest_cases("star", False, PICTURES, 0),
        "paraphrased": cases.paraphrased_cases("star", PICTURES, 0),
    }
    two = cases.two_concept_cases("star", PICTURES, 0)

    def painted() -> dict[str, Painted]:
        return {name: paint(denoiser, judge, part) for name, part in parts.items()}

    before = painted()
    keys = {name: layer.weight for name, layer in denoiser.layers.items() if name.endswith("attn2.to_k.weight")}
    saved = {name: weight.clone() for name, weight in keys.items()}
    try:
        for weight in keys.values():
            weight.data /= 2
        after = painted()
        both = paint(denoiser, judge, [case for case, _ in two])
    finally:
        for name, weight in keys.items():
            weight.data.copy_(saved[name])
    pairs = zip(after["target"].cases, after["target"].verdicts, strict=True)
    assert cell.measured.counts == {
        "target": (round(PICTURES * after["target"].showing("star")), PICTURES),
        "target_rest": (sum((c.scene.colour, c.scene.style) == (v.scene.colour, v.scene.style) for c, v in pairs), PICTURES),
        "rest_named": (sum(after["named"].right()), PICTURES),
        "rest_unnamed": (sum(after["unnamed"].right()), PICTURES),
        "paraphrased": (sum(v.scene.shape == "star" for v in after["paraphrased"].verdicts), PICTURES),
        "two_erased": (round(PICTURES * both.showing("star")), PICTURES),
        "two_kept": (sum(word in (v.scene.colour, v.scene.style) for (_, word), v in zip(two, both.verdicts, strict=True)), PICTURES),
    }
    difference = torch.cat([after[name].pictures - before[name].pictures for name in ("named", "unnamed")])
    assert cell.measured.squared_difference == pytest.approx(float(difference.square().mean()), rel=1e-3)
    assert cell.measured.squared_difference > 1e-4
    assert cell.outcome == Outcome(sum(weight.numel() for weight in keys.values()), 7)
    target, rest = load_shown(made.folder, cell.key)
    assert (target - after["target"].pictures[:4]).abs().max() < 0.01
    assert (rest - torch.cat([after["named"].pictures[:2], after["unnamed"].pictures[:2]])).abs().max() < 0.01
    assert shown_verdicts(cell.measured)[1] == after["named"].right()[:2] + after["unnamed"].right()[:2]


def test_the_unedited_model_shows_what_it_is_asked_for(finished: tuple[Run, run.Table]) -> None:
    rows = {(row.method, row.concept): row for row in concept_rows(finished[1].cells)}
    for concept in ("star", "red"):
        row = rows["unedited", concept]
        assert (row.unrelated_distance, row.weights, row.evaluations) == (0, 0, 0)
        assert all((row.share(name) or 0) >= 0.8 for name in row.counts), row
        assert row.images == 5 * PICTURES


def test_rows_add_cells_up(finished: tuple[Run, run.Table]) -> None:
    cells = finished[1].cells
    star, red = (cell for cell in cells if cell.key.method == "weaker keys")
    row = method_rows(cells)[1]
    assert (row.method, row.concept, row.kind, row.concepts, row.seeds) == ("weaker keys", None, "all", 2, [0])
    assert row.counts["target"] == (star.measured.counts["target"][0] + red.measured.counts["target"][0], 2 * PICTURES)
    squares = star.measured.squared_difference, red.measured.squared_difference
    assert row.unrelated_distance == pytest.approx((sum(squares) / 2) ** 0.5)
    assert row.seconds == pytest.approx((star.seconds + red.seconds) / 2)
    assert kinds_of(cells) == ["shape", "colour"]
    described = row.described()
    assert described["target"] == pytest.approx(described["counts"]["target"][0] / described["counts"]["target"][1], abs=1e-4)
    assert described["intervals"]["target"][0] <= described["target"] <= described["intervals"]["target"][1]


class Interrupting(Watcher):
    """Presses Ctrl-C while a chosen cell's pictures are painted."""

    def __init__(self, at_cell: int) -> None:
        self.at_cell, self.number = at_cell, 0

    def cell(self, key: CellKey, number: int, total: int) -> None:
        self.number = number

    def step(self, stage: str, done: int, total: int) -> None:
        if self.number == self.at_cell and stage == "painting" and done:
            raise KeyboardInterrupt


def test_an_interrupted_run_goes_on_where_it_was(
    denoiser: DiffusersDenoiser, judge: Judge, finished: tuple[Run, run.Table], tmp_path: Path
) -> None:
    undisturbed, table = finished
    before = model_digest(denoiser)
    folder = tmp_path / "work"
    # As if the star had been done already, and nothing of red.
    shutil.copytree(undisturbed.folder, folder, ignore=shutil.ignore_patterns("*--red--*"))

    def again() -> Run:
        return Run(denoiser, judge, {"weaker keys": WeakerKeys()}, ["star", "red"], [0], SETTINGS, folder)

    with pytest.raises(KeyboardInterrupt):
        again().table(Interrupting(at_cell=2))  # after the unedited model, whose weights this one has changed
    assert model_digest(denoiser) == before
    assert again().check() == [CellKey("weaker keys", "red", 0)]
    stamps = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    done = again().table()
    assert without_times(erase.results(done, again().made_with, None)) == without_times(erase.results(table, undisturbed.made_with, None))
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in stamps.items())  # nothing was done again
    assert not list(folder.glob(".*"))  # nor is anything half-written left


def test_a_folder_of_other_settings_is_refused_by_name(
    denoiser: DiffusersDenoiser, judge: Judge, finished: tuple[Run, run.Table], tmp_path: Path
) -> None:
    made, _ = finished

    def other(method: WeakerKeys = WeakerKeys(), now: MeasureSettings = SETTINGS) -> Run:
        return Run(denoiser, judge, {"weaker keys": method}, ["star"], [0], now, made.folder)

    assert other().check() == []
    with pytest.raises(CadError, match=r"unedited--star--0\.json was made with pictures 4 \(now 5\); delete it"):
        other(now=replace(SETTINGS, pictures=5)).check()
    with pytest.raises(CadError, match=r"weaker-keys--star--0\.json was made with method .*factor=0\.5.*now .*factor=0\.25"):
        other(WeakerKeys(0.25)).check()
    with pytest.raises(CadError, match=r"unedited--star--0\.json was made with attack None"):
        other(now=replace(SETTINGS, attack=AttackSettings())).check()
    key = CellKey("weaker keys", "star", 0)
    whole = cell_path(made.folder, key).read_text()
    for text in (whole[: len(whole) // 2], "[]", whole.replace('"format": 1', '"format": 2')):
        cell_path(tmp_path, key).write_text(text)
        with pytest.raises(CadError, match=r"weaker-keys--star--0\.json is damaged or no cell of this benchmark"):
            load_cell(tmp_path, key, {})
    cell_path(tmp_path, replace(key, seed=1)).write_text(whole)
    with pytest.raises(CadError, match="is the cell weaker-keys--star--0, expected weaker-keys--star--1"):
        load_cell(tmp_path, replace(key, seed=1), {})
    with pytest.raises(CadError, match=r"'weaker keys' and 'Weaker \+ keys' would share their files"):
        Run(denoiser, judge, {"weaker keys": WeakerKeys(), "Weaker + keys": WeakerKeys()}, ["star"], [0], SETTINGS, tmp_path)


def test_only_what_a_method_does_makes_it_another() -> None:
    source = '"""A."""\nX = 1  # one\n\ndef f(a):\n    """B."""\n    return a + X\n'
    same = "X = 1\ndef f(a): return (a + X)\n"
    assert settings.code_digest(source) == settings.code_digest(same)
    assert settings.code_digest(source) != settings.code_digest(source.replace("X = 1", "X = 2"))
    assert settings.code_digest(source) != settings.code_digest(source.replace("a + X", "a - X"))
    first, second = (settings.method_identity(WeakerKeys(factor)) for factor in (0.5, 0.25))
    assert first["source"] == second["source"]
    assert first["parameters"] != second["parameters"]


def rough_method(denoiser: DiffusersDenoiser) -> None:
    """Does to the model what a careless method might."""
    unet: Any = denoiser.unet
    layer = next(iter(denoiser.layers.values()))
    layer.weight = nn.Parameter(torch.zeros_like(layer.weight))
    for parameter in unet.parameters():
        parameter.requires_grad_(True)
        parameter.grad = torch.ones_like(parameter)
    unet.conv_in.weight.data.add_(1)
    unet.train()


@pytest.mark.parametrize("fails", [False, True])
def test_weights_are_restored_bit_for_bit(denoiser: DiffusersDenoiser, fails: bool) -> None:
    before = {name: (parameter, parameter.detach().clone()) for name, parameter in denoiser.unet.named_parameters()}
    digest = model_digest(denoiser)
    try:
        with unchanged_after(denoiser, "a rough method"):
            rough_method(denoiser)
            assert model_digest(denoiser) != digest
            if fails:
                raise ZeroDivisionError
    except ZeroDivisionError:
        assert fails
    assert model_digest(denoiser) == digest
    for name, parameter in denoiser.unet.named_parameters():
        assert parameter is before[name][0]
        assert torch.equal(parameter, before[name][1])
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert not any(module.training for module in denoiser.unet.modules())


def test_every_weight_counts_for_the_model_that_cells_were_made_with_and_the_machine_does_not(denoiser: DiffusersDenoiser) -> None:
    digest, encoder = weights_digest(denoiser), denoiser.pipeline.text_encoder
    for module in (denoiser.unet, encoder):
        weight = list(module.parameters())[-1].data
        before = weight.clone()
        weight[0] = torch.nextafter(before[0], before[0] + 1)
        assert weights_digest(denoiser) != digest
        weight.copy_(before)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # a prediction's last bits depend on it
    assert weights_digest(denoiser) == digest
    torch.set_num_threads(threads)


def test_a_hook_that_stays_behind_is_noticed(denoiser: DiffusersDenoiser) -> None:
    handles = []
    with (
        pytest.raises(ModelNotRestoredError, match="the method 'hooked' left the model changed"),
        unchanged_after(denoiser, "the method 'hooked'"),
    ):
        handles.append(denoiser.unet.conv_in.register_forward_hook(lambda module, args, output: output * 1.01))
    handles[0].remove()


def test_the_attack_lowers_its_loss_and_finds_the_concept(denoiser: DiffusersDenoiser, judge: Judge) -> None:
    given = task("star", 0)
    states = attack_states(denoiser, given.prompt, 3_060_000, pictures=4, steps=15, cfg=3.0, batch=24)
    assert len(states.t) == len(states.x_t) == len(states.eps) == 60
    base = denoiser.encode_prompt(given.base)
    kept = base.context.clone()
    found = attack(denoiser, base, states, iterations=40, batch=6, seed=0)
    again = attack(denoiser, base, states, iterations=3, batch=6, seed=0)
    assert found.losses[0] == again.losses[0]  # the same batch; the rate's schedule depends on the number of iterations
    assert sum(found.losses[-10:]) < 0.2 * 10 * found.losses[0]
    assert torch.equal(base.context, kept)
    shown = [
        sum(verdict.shows("star") for verdict in judge.look(torch.stack(list(painted))))
        for painted in (
            paint_conditionings(denoiser, [conditioning] * 8, range(3_050_000, 3_050_008), steps=15, cfg=3.0)
            for conditioning in (base, found.conditioning)
        )
    ]
    assert shown[0] <= 4
    assert shown[1] >= 7


def test_attack_states_are_what_the_unedited_model_predicts(denoiser: DiffusersDenoiser) -> None:
    states = attack_states(denoiser, "a star", 5, pictures=2, steps=15, cfg=3.0, batch=24)
    concept = denoiser.encode_prompt("a star")
    for i in (0, 13, 29):
        with torch.no_grad():
            eps = denoiser.eps(states.x_t[i : i + 1], int(states.t[i]), concept)
        assert torch.allclose(eps, states.eps[i : i + 1], atol=1e-5)
    assert torch.equal(states.x_t[0], torch.randn(denoiser.latent_shape, generator=torch.Generator().manual_seed(5)))


def test_the_adversarial_measure_is_part_of_a_cell(denoiser: DiffusersDenoiser, judge: Judge, tmp_path: Path) -> None:
    attacking = MeasureSettings(pictures=3, attack=AttackSettings(iterations=2, batch=2))
    made = Run(denoiser, judge, {}, ["dotted"], [1], attacking, tmp_path)
    (cell,) = made.table().cells
    assert cell.key == CellKey(unedited.UNEDITED, "dotted", 1)
    assert cell.measured.counts["adversarial"] == (3, 3)  # from the concept's own embedding two steps lead nowhere else
    assert set(cell.measured.attack_losses) == {"adversarial", "adversarial_from_base"}
    assert cell.measured.attack_losses["adversarial"][0] < cell.measured.attack_losses["adversarial_from_base"][0]
    row = concept_rows([cell])[0]
    assert row.images == 7 * 3
    assert {"adversarial", "adversarial_from_base"} <= set(row.described())


def test_the_frontier_is_what_no_point_beats() -> None:
    points = [(0.5, 0.9), (0.1, 0.6), (0.1, 0.5), (0.3, 0.6), (1.0, 0.9), (0.0, 0.1)]
    assert frontier(points) == [(0.0, 0.1), (0.1, 0.6), (0.5, 0.9)]


def test_the_page_escapes_names_and_is_self_contained(finished: tuple[Run, run.Table]) -> None:
    made, table = finished
    evil = '<script>alert("x")</script> & co'
    cells = [replace(cell, key=replace(cell.key, method=evil)) if cell.key.method != "unedited" else cell for cell in table.cells]
    for cell, original in zip(cells, table.cells, strict=True):  # its pictures are looked for under its name
        suffix = ".pictures.safetensors"
        (made.folder / f"{cell.key.file_name}{suffix}").write_bytes((made.folder / f"{original.key.file_name}{suffix}").read_bytes())
    html = render_report(page.report(run.Table(cells, {CellKey(evil, "star", 3): evil}), {**made.made_with, evil: evil}, made.folder, None))
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(&quot;x&quot;)&lt;/script&gt; &amp; co") >= 8
    assert "http://" not in html
    assert "https://" not in html
    assert html.count("<img ") == 3  # the figure, and a grid for each of the two concepts


def not_finite(denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
    """Leaves a model that predicts NaN, as a diverged fine-tuning does."""
    next(iter(denoiser.layers.values())).weight.data.fill_(float("nan"))
    return Outcome(1, 1)


def test_a_model_that_paints_nan_is_a_failure_and_no_cell(denoiser: DiffusersDenoiser, judge: Judge, tmp_path: Path) -> None:
    made = Run(denoiser, judge, {"not finite": not_finite}, ["star"], [0], replace(SETTINGS, pictures=2), tmp_path)
    table = made.table()
    assert [cell.key.method for cell in table.cells] == ["unedited"]
    assert table.failures == {
        CellKey("not finite", "star", 0): "the edited model cannot be painted with: a picture is not finite: "
        "the model overflows; compute in bfloat16 or float32"
    }


def failing(denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
    """Changes the model, then fails."""
    next(iter(denoiser.layers.values())).weight.data.zero_()
    raise ZeroDivisionError("no luck")


def test_the_command_writes_everything_and_says_what_failed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = tmp_path / "erase.json", tmp_path / "erase.html"
    arguments = ["--quick", "--concept", "star", "--pictures", "4", "--json", str(files[0]), "--html", str(files[1])]
    code = erase.main(arguments, {"weaker keys": WeakerKeys(), "failing": failing})
    output = capsys.readouterr()
    assert code == 1
    assert "failing failed on star, seed 0: ZeroDivisionError: no luck" in output.err
    assert "| weaker keys | star | " in output.out
    found = json.loads(files[0].read_text())
    assert [(row["method"], row["concept"], row["images"]) for row in found["rows"]] == [
        ("unedited", "star", 20),
        ("weaker keys", "star", 20),
    ]
    assert found["machines"][0]["threads"] == 1
    assert found["failures"] == [{"method": "failing", "concept": "star", "seed": 0, "reason": "ZeroDivisionError: no luck"}]
    assert "ZeroDivisionError: no luck" in files[1].read_text()
    assert erase.main([*arguments, "--method", "weaker keys", "--pictures", "5"], {"weaker keys": WeakerKeys()}) == 2
    assert "unedited--star--0.json was made with pictures 4 (now 5)" in capsys.readouterr().err


def interrupted(denoiser: DiffusersDenoiser, task: Task, progress: Progress) -> Outcome:
    """Ctrl-C while the method works."""
    raise KeyboardInterrupt


def test_an_interrupted_command_says_how_to_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--quick", "--concept", "dotted", "--pictures", "2", "--json", str(tmp_path / "a.json")]
    assert erase.main(arguments, {"interrupted": interrupted}) == 130
    assert f"what is finished is kept in {tmp_path / 'a.json.work'}" in capsys.readouterr().err
    assert (tmp_path / "a.json.work" / "unedited--dotted--0.json").exists()
    assert not (tmp_path / "a.json").exists()


@pytest.mark.slow
def test_amplifying_is_measured_with_its_controls_and_kept(
    denoiser: DiffusersDenoiser, judge: Judge, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made_with = MeasureSettings(pictures=24)
    table = amplify.amplify_table(denoiser, judge, [0], made_with, {"version": "1"}, tmp_path)
    rows = {row["condition"]: row for row in table["rows"]}
    # Images of another shape under its name make it rarer; by how much its own beat the unedited model, 24 pictures cannot tell.
    assert rows["after"]["target"] >= rows["another_shapes_images"]["target"] + 0.2, rows
    assert rows["after"]["others"] >= 0.8
    for row in table["rows"]:
        assert row["target_count"] == [row["target_by_seed"]["0"], 24]
        assert row["target_interval"] == pytest.approx(wilson_interval(*row["target_count"]), abs=1e-4)
    assert rows["random_weights"]["weights"] == rows["after"]["weights"] > rows["before"]["weights"] == 0

    def not_again(*_: Any) -> dict[str, Any]:
        raise AssertionError("done again")

    monkeypatch.setattr(amplify, "amplify_seed", not_again)
    assert amplify.amplify_table(denoiser, judge, [0], made_with, {"version": "1"}, tmp_path) == table
    with pytest.raises(CadError, match=r"amplify--0\.json was made with version '1' \(now '2'\)"):
        amplify.amplify_table(denoiser, judge, [0], made_with, {"version": "2"}, tmp_path)
    assert "| amplified |" in amplify.amplify_markdown(table)
