"""cad combine and files of several edits: parts survive the file, are shown, and are taken out again; damaged ones are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from cad_engine.edit import combine
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.errors import CadError
from tests.test_cli import run
from tests.test_edit import assert_same, named
from tests.test_files import rewrite


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """Three edits, and the file of all three, the second at strength 0.5."""
    paths = {}
    for seed, concept in enumerate(("star", "dotted", "square")):
        paths[concept] = tmp_path / f"{concept}.safetensors"
        save_edit(paths[concept], named(concept, seed, fingerprint="f"))
    return {**paths, "all": tmp_path / "all.safetensors"}


def combined(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> dict:
    arguments = [str(files["star"]), f"{files['dotted']}:0.5", str(files["square"])]
    code, out, err = run(capsys, "combine", *arguments, "--out", str(files["all"]), "--json")
    assert (code, err) == (0, "")
    return json.loads(out)


def test_parts_survive_the_file(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    result = combined(files, capsys)
    assert [(part["concept"], part["strength"], part["weights_taken"]) for part in result["parts"]] == [
        ("star", 1, 27),
        ("dotted", 0.5, 27),
        ("square", 1, 27),
    ]
    expected = combine([(load_edit(files[name]), strength) for name, strength in (("star", 1.0), ("dotted", 0.5), ("square", 1.0))])
    assert_same(load_edit(files["all"]), expected)
    assert result["weights_taken"] == len(expected) < 3 * 27


@pytest.mark.parametrize("part", ["dotted", "2"])
def test_what_is_taken_out_was_never_there(files: dict[str, Path], part: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    combined(files, capsys)
    less, pair, last = (tmp_path / f"{name}.safetensors" for name in ("less", "pair", "last"))
    assert run(capsys, "combine", str(files["all"]), "--without", part, "--out", str(less))[0] == 0
    assert run(capsys, "combine", str(files["star"]), str(files["square"]), "--out", str(pair))[0] == 0
    assert less.read_bytes() == pair.read_bytes()
    arguments = ["--without", "square", "--without", "dotted", "--out", str(last)]
    assert run(capsys, "combine", str(files["all"]), *arguments)[0] == 0
    assert last.read_bytes() == files["star"].read_bytes()


def test_inspect_shows_the_parts(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    combined(files, capsys)
    code, out, _ = run(capsys, "inspect", str(files["all"]))
    assert code == 0
    for line in ("part 1 'star': 27 weights in 3 layers", "part 2 'dotted': 27 weights in 3 layers", "  strength: 0.5", "part 3 'square'"):
        assert line in out
    result = json.loads(run(capsys, "inspect", str(files["all"]), "--json")[1])
    assert [part["info"]["concept"] for part in result["parts"]] == ["star", "dotted", "square"]
    assert json.loads(run(capsys, "inspect", str(files["star"]), "--json")[1])["parts"] == []


def test_other_weights_are_warned_of(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    save_edit(files["dotted"], named("dotted", 1, fingerprint="g"))
    code, _, err = run(capsys, "combine", str(files["star"]), str(files["dotted"]), "--out", str(files["all"]))
    assert code == 0
    assert "cad: warning: these edits were made from different weights" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["star", "--without", "circle", "--out", "all"], "is no part of this edit"),
        (["star", "--without", "star", "--out", "all"], "nothing would be left"),
        (["star", "dotted", "--out", "star"], "also named as another file"),
        (["star", "all", "--out", "square"], "there is no file"),
    ],
)
def test_mistakes(files: dict[str, Path], arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.read_bytes() for path in files.values() if path.exists()}
    places = {name: str(path) for name, path in files.items()}
    named_files = [argument if arguments[i - 1] == "--without" else places.get(argument, argument) for i, argument in enumerate(arguments)]
    code, _, err = run(capsys, "combine", *named_files)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert {path: path.read_bytes() for path in files.values() if path.exists()} == before


SHAPES = {"a": [4, 6], "b": [4, 6], "only star": [4, 6]}
BAD = {
    "one part": ({"metadata": {"parts": [{"info": {}, "shapes": SHAPES}]}}, "a list of two or more objects"),
    "parts of another kind": ({"metadata": {"parts": [1, 2]}}, "a list of two or more objects"),
    "no list": ({"metadata": {"parts": "star"}}, "a list of two or more objects"),
    "a part too many": ({"tensors": {"4/a:index": torch.tensor([1], dtype=torch.int32)}}, "belongs to no layer"),
    "a tensor beside the parts": ({"tensors": {"a:index": torch.tensor([1], dtype=torch.int32)}}, "belongs to no layer"),
    "a part without positions": ({"drop": "2/a:index"}, "no tensor 2/a:index"),
    "positions out of range": ({"tensors": {"3/b:index": torch.arange(16, 25, dtype=torch.int32)}}, "3/b must ascend within 0..23"),
    "factors not finite": ({"tensors": {"1/b:factor": torch.full((9,), float("nan"))}}, "not finite"),
    "factors of another length": ({"tensors": {"1/b:factor": torch.zeros(8)}}, "expected [9]"),
    "factors that overflow together": (
        {"tensors": {f"{n}/b:{what}": value for n in (1, 2) for what, value in
                     (("index", torch.arange(9, dtype=torch.int32)), ("factor", torch.full((9,), 1e38)))}},
        "beyond what float32 holds",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_damaged_or_hostile_file_of_parts_is_refused(case: str, files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    combined(files, capsys)
    change, message = BAD[case]
    rewrite(files["all"], **change)
    with pytest.raises(CadError) as error:
        load_edit(files["all"])
    assert message in str(error.value)
    assert str(files["all"]) in str(error.value)
    assert "\n" not in str(error.value)


def test_parts_of_different_shapes_are_refused(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    combined(files, capsys)
    parts = [{"info": {}, "shapes": {"a": side, "b": [4, 6], f"only {concept}": [4, 6]}} for concept, side in
             (("star", [4, 6]), ("dotted", [6, 4]), ("square", [4, 6]))]  # fmt: skip
    rewrite(files["all"], metadata={"parts": parts})
    with pytest.raises(CadError, match=r"different architectures: a is .4, 6. in one and .6, 4. in another"):
        load_edit(files["all"])


def test_the_file_holds_each_part_once(files: dict[str, Path], capsys: pytest.CaptureFixture[str]) -> None:
    combined(files, capsys)
    found = load_file(files["all"])
    assert set(found) == {f"{n}/{name}:{what}" for n, concept in enumerate(("star", "dotted", "square"), start=1)
                          for name in ("a", "b", f"only {concept}") for what in ("index", "factor")}  # fmt: skip
