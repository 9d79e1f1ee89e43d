"""cad attribute-list in one process: what it says, what it does not do again, and what it refuses before any work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from cad_engine.attribution_file import load_attribution
from tests.checkpoints.tiny_checkpoints import make_tiny
from tests.test_cli import SMALL, run

TINY = ["--method", "paper", "--trajectories", "1", "--steps", "1", *SMALL]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny("sd1").save(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


def test_a_file_for_each_concept_and_none_twice(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    concepts, out = tmp_path / "list.txt", tmp_path / "new" / "folder"
    concepts.write_text("# two\nvan gogh\na star | a shape\n")
    listed = ["attribute-list", model, str(concepts), "--base", "a painter", "--keep", "a heart", *TINY, "--out", str(out)]
    code, printed, err = run(capsys, *listed)
    assert code == 0, err
    assert printed.splitlines()[0].startswith(f"2 concepts in {out}: 2 made in ")
    assert printed.splitlines()[0].endswith(" s, 0 there already")
    assert printed.splitlines()[1:] == [
        "the method paper does not use keep",
        f"next, for 'van gogh': cad erase {model} {out / 'van_gogh.safetensors'} --ratio 0.004 --out edit.safetensors",
    ]
    command = printed.splitlines()[-1].partition(": cad ")[2].split()
    code, _, err = run(capsys, *command[:-1], str(tmp_path / "edit.safetensors"))
    assert code == 0, err
    made = {path.name: load_attribution(path).info for path in out.iterdir()}
    assert {name: (info["concept"], info["base"]) for name, info in made.items()} == {
        "van_gogh.safetensors": ("van gogh", "a painter"),
        "a_star.safetensors": ("a star", "a shape"),
    }
    # A file of `cad attribute` with the same settings is as good, and so is another batch.
    alone = ["--concept", "a heart", "--base", "a painter", *TINY, "--batch", "9", "--out", str(out / "a_heart.safetensors")]
    assert run(capsys, "attribute", model, *alone)[0] == 0
    concepts.write_text("a star | a shape\na heart\na ring\n")
    before = {path.name: path.stat().st_mtime_ns for path in out.iterdir()}
    again = listed[: listed.index("--keep")] + listed[listed.index("--keep") + 2 :]
    code, printed, err = run(capsys, *again, "--json")
    assert code == 0, err
    result = json.loads(printed)
    assert (result["made"], result["there_already"]) == (1, 2)
    assert [(file["concept"], file["made"]) for file in result["files"]] == [("a star", False), ("a heart", False), ("a ring", True)]
    assert {name: (out / name).stat().st_mtime_ns for name in before} == before


def test_every_method_makes_lists(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    concepts = tmp_path / "list.txt"
    concepts.write_text("a star\n")
    for method, extra, score in (
        ("rounds", ["--rounds", "1", "--context", "a photo of {}", "--keep", "a heart", "--no-vary"], "effect"),
        ("per-harm", [], "attribution per harm"),
        ("paper", ["--objective", "amplify"], "attribution"),
    ):
        out = tmp_path / method
        arguments = ["attribute-list", model, str(concepts), *TINY, "--batch", "20", *extra, "--out", str(out), "--json"]
        arguments[arguments.index("paper")] = method
        for made in (1, 0):  # what is found in rounds is nothing that a second run would miss
            code, printed, err = run(capsys, *arguments)
            assert code == 0, err
            assert json.loads(printed)["made"] == made
        assert load_attribution(out / "a_star.safetensors").score == score


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--seed", "1"], "a_star.safetensors was made with seed 0, and this run has 1; move it away, or choose another folder"),
        (["--base", "a shape"], "was made with base '', and this run has 'a shape'"),
        (["--method", "per-harm"], "was made with components ['ff'], and this run has ['ff', 'attention']"),
        (["--dtype", "bfloat16"], "was made with dtype 'float32', and this run has 'bfloat16'"),
    ],
)
def test_other_settings_are_refused_before_any_work(
    change: list[str], message: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    concepts, out = tmp_path / "list.txt", tmp_path / "out"
    concepts.write_text("a star\n")
    listed = ["attribute-list", model, str(concepts), *TINY, "--out", str(out)]
    assert run(capsys, *listed)[0] == 0
    concepts.write_text("a heart\na star\n")
    code, _, err = run(capsys, *listed, *change)
    assert code == 2
    assert message in err
    assert [path.name for path in out.iterdir()] == ["a_star.safetensors"]


def test_another_model_and_other_files_are_refused(model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    concepts, out = tmp_path / "list.txt", tmp_path / "out"
    concepts.write_text("a star\n")
    listed = [str(concepts), *TINY, "--out", str(out)]
    assert run(capsys, "attribute-list", model, *listed)[0] == 0
    other = tmp_path / "tiny.safetensors"  # of the same name
    save_file({name: tensor * 1.01 if "to_out" in name else tensor for name, tensor in load_file(model).items()}, other)
    code, _, err = run(capsys, "attribute-list", str(other), *listed)
    assert code == 2
    assert "a_star.safetensors was made with fingerprint '" in err
    file = out / "a_star.safetensors"
    whole = file.read_bytes()
    edit = str(tmp_path / "edit.safetensors")
    assert run(capsys, "erase", model, str(file), "--ratio", "0.02", "--out", edit)[0] == 0
    for content, message in (
        (whole[:-100], "is damaged"),
        (b"text", "is not a safetensors file"),
        (Path(edit).read_bytes(), "is a CAD 'edit' file, in the place of an attribution"),
    ):
        file.write_bytes(content)
        code, _, err = run(capsys, "attribute-list", model, *listed)
        assert code == 2
        assert f"{file} {message}" in err
        assert file.read_bytes() == content


@pytest.mark.parametrize(
    ("text", "more", "message"),
    [
        ("", [], "list.txt has no concept; write one a line"),
        ("a star\nA Star", [], "list.txt, lines 1 and 2: 'a star' and 'A Star' would both be written to A_Star.safetensors"),
        ("a star\n\na shape", ["--base", "a shape"], "list.txt, line 3: the concept 'a shape' and the base prompt are the same"),
        ("a star | a star", [], "list.txt, line 1: the concept 'a star' and the base prompt are the same"),
        (
            "a star\na cat",
            ["--method", "rounds", "--keep", "a cat"],
            "list.txt, line 2: the concept 'a cat' is also among the prompts to keep",
        ),
        ("a star", ["--steps", "-1"], "list.txt, line 1: "),
        ("a star", ["--out", "LIST"], "cannot make the folder"),
        (None, [], "there is no file"),
    ],
)
def test_a_bad_list_is_one_line_and_exit_code_2(
    text: str | None, more: list[str], message: str, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    concepts = tmp_path / "list.txt"
    if text is not None:
        concepts.write_text(text)
    before = sorted(tmp_path.iterdir())
    options = [str(concepts) if option == "LIST" else option for option in more]
    code, _, err = run(capsys, "attribute-list", model, str(concepts), *TINY, "--out", str(tmp_path / "out"), *options)
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("cad: error: ")
    assert message in line
    assert sorted(tmp_path.iterdir()) == before
