"""The command line on a tiny checkpoint: the whole way round, and every bad input as one line and exit code 2."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cad_engine.attribution import Attribution
from cad_engine.attribution_file import load_attribution
from cad_engine.cli import main
from cad_engine.edit_file import load_edit
from cad_engine.ordinary_prompts import ordinary_prompts
from cad_engine.variations import NEIGHBOURS
from tests.checkpoints.tiny_checkpoints import make_tiny

SMALL = ["--width", "32", "--height", "32"]  # pixels; the tiny models' own size is that of the real ones


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(make_tiny("sd1").save(tmp_path_factory.mktemp("model") / "tiny.safetensors"))


@pytest.fixture(scope="module")
def attribution(checkpoint: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    out = tmp_path_factory.mktemp("attribution") / "star.safetensors"
    small = ["--trajectories", "2", "--steps", "2", "--batch", "2", *SMALL]
    assert run_quietly(["attribute", checkpoint, "--concept", "a star", "--method", "paper", *small, "--out", str(out)]) == 0
    return str(out)


def run_quietly(arguments: list[str]) -> int:
    """`cad` with these arguments in this process; its exit code."""
    before = sys.argv
    sys.argv = ["cad", *arguments]
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    finally:
        sys.argv = before
    return 0


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_quietly(list(arguments))
    output = capsys.readouterr()
    return code, output.out, output.err


def test_all_the_way_round(checkpoint: str, attribution: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    edit, baked = tmp_path / "edit.safetensors", tmp_path / "baked.safetensors"
    common = ["--ratio", "0.02", "--out", str(edit), "--bake", str(baked), "--json"]
    code, out, err = run(capsys, "erase", checkpoint, attribution, *common)
    assert code == 0, err
    result = json.loads(out)
    assert result["weights_taken"] == len(load_edit(edit)) > 0

    original, changed = load_file(checkpoint), load_file(baked)
    layers = load_edit(edit).layers
    for name, tensor in original.items():
        layer = layers.get(name.removeprefix("model."))
        if layer is None:
            assert torch.equal(tensor, changed[name])
        else:
            touched = torch.zeros(tensor.numel(), dtype=torch.bool)
            touched[layer.index] = True
            assert not changed[name].flatten()[touched].any()
            assert torch.equal(tensor.flatten()[~touched], changed[name].flatten()[~touched])

    pictures = {}
    for name, model, extra in (
        ("plain", checkpoint, []),
        ("edited", checkpoint, ["--edit", str(edit)]),
        ("half", checkpoint, ["--edit", f"{edit}:0.5"]),
        ("baked", str(baked), []),
    ):
        arguments = ["--prompt", "a star", "--steps", "2", *SMALL, "--out", str(tmp_path / name), *extra]
        code, _, err = run(capsys, "generate", model, *arguments)
        assert code == 0, err
        (picture,) = (tmp_path / name).glob("*.png")
        pictures[name] = Image.open(picture).tobytes()
    assert pictures["edited"] == pictures["baked"]
    assert len({pictures["plain"], pictures["edited"], pictures["half"]}) == 3

    for file, words in ((attribution, ["ff in", "all "]), (str(edit), ["edit of", "concept: a star"])):
        code, out, err = run(capsys, "inspect", file)
        assert code == 0, err
        assert all(word in out for word in words)
    code, out, _ = run(capsys, "inspect", attribution, "--json", "--plot", str(tmp_path / "p.png"), "--html", str(tmp_path / "p.html"))
    assert json.loads(out)["weights_total"] == result["weights_total"]
    assert Image.open(tmp_path / "p.png").width > 500
    page = (tmp_path / "p.html").read_text()
    assert "data-cad-viewer" in page
    assert "default-src 'none'; " in page  # it may fetch nothing
    assert not re.search(r"""(?:src|href|url)\s*[=(]\s*["']?https?:""", page)
    code, out, _ = run(capsys, "inspect", attribution, "--json", "--compare", attribution, "--ratio", "0.02", "--select", "layer")
    overlap = json.loads(out)["overlap"]
    assert (overlap["ratio"], overlap["rule"]) == (0.02, "layer")
    assert overlap["pairs"][0][1]["shared"] == overlap["pairs"][0][1]["taken"] > 0
    code, out, _ = run(capsys, "inspect", attribution, "--compare", attribution)
    assert "Erasing “a star” would touch " in out
    code, _, err = run(capsys, "inspect", attribution, "--compare", attribution, "--select", "best")
    assert code == 2
    assert "selection must be one of row, row_min1, layer, global, got 'best'" in err


def test_an_attribution_of_another_model_warns_and_works(
    attribution: str, checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tensors = load_file(checkpoint)
    changed = {name: value * 1.01 if "to_out" in name else value for name, value in tensors.items()}
    save_file(changed, tmp_path / "fine-tune.safetensors")
    arguments = [attribution, "--ratio", "0.02", "--out", str(tmp_path / "e.safetensors"), "--json"]
    code, out, err = run(capsys, "erase", str(tmp_path / "fine-tune.safetensors"), *arguments)
    assert code == 0
    assert "cad: warning: " in err
    assert "made from other weights" in json.loads(out)["warning"]
    code, out, err = run(capsys, "erase", checkpoint, *arguments)
    assert (code, err, json.loads(out)["warning"]) == (0, "", None)


def test_a_console_that_lacks_characters_does_not_cost_the_result(checkpoint: str, tmp_path: Path) -> None:
    out = tmp_path / "a.safetensors"
    small = ["--method", "paper", "--trajectories", "1", "--steps", "1", *SMALL]
    arguments = ["attribute", checkpoint, "--concept", "葛飾北斎", *small, "--out", str(out)]
    for extra in ([], ["--json"]):
        done = subprocess.run(
            [sys.executable, "-m", "cad_engine.cli", *arguments, *extra],
            env={**os.environ, "PYTHONIOENCODING": "cp1252"},
            cwd=Path(__file__).parent.parent,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert out.exists()


TINY = ["--trajectories", "1", "--steps", "1", "--batch", "20", *SMALL]


def attribute(capsys: pytest.CaptureFixture[str], checkpoint: str, out: Path, *more: str) -> tuple[dict[str, Any], Attribution]:
    """What `cad attribute --json` with the concept "a star" prints, and the file that it writes."""
    code, printed, err = run(capsys, "attribute", checkpoint, "--concept", "a star", *TINY, *more, "--out", str(out), "--json")
    assert code == 0, err
    return json.loads(printed), load_attribution(out)


def test_the_method_decides_what_is_not_said(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ordinary = list(ordinary_prompts("sd1", "a star"))
    kept_alone = f"keep is empty, so {len(ordinary)} ordinary prompts were kept"
    for arguments, score, keep, components, remarks in (
        (["--method", "paper"], "attribution", [], ["ff"], []),
        (["--method", "paper", "--keep", "a heart"], "attribution", [], ["ff"], ["the method paper does not use keep"]),
        (["--method", "per-harm"], "attribution per harm", ordinary, ["ff", "attention"], [kept_alone]),
        (["--method", "per harm", "--keep", "a heart"], "attribution per harm", ["a heart"], ["ff", "attention"], []),
        (["--method", "paper", "--components", "attention"], "attribution", [], ["attention"], []),
        (["--objective", "amplify"], "attribution", [], ["ff"], []),
        (["--objective", "amplify", "--keep", "a heart"], "attribution per harm", ["a heart"], ["ff", "attention"], []),
    ):
        result, made = attribute(capsys, checkpoint, tmp_path / "a.safetensors", *arguments)
        assert (result["score"], result["keep"], result["remarks"]) == (score, keep, remarks), arguments
        assert (made.info["components"], made.solved) == (components, False), arguments


def test_rounds_are_the_default_and_look_further_than_told(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = ["--rounds", "1", "--keep", "a heart", "--context", "a photo of {}"]
    plain, made = attribute(capsys, checkpoint, tmp_path / "a.safetensors", *told, "--no-vary")
    assert (plain["keep"], plain["remarks"]) == (["a heart"], [])
    assert (made.info["rounds"], made.info["contexts"], made.info["components"]) == (1, ["a photo of {}"], ["cross_attention_kv"])
    assert made.solved
    varied, made = attribute(capsys, checkpoint, tmp_path / "b.safetensors", *told)
    assert made.solved
    assert made.info["contexts"][0] == "a photo of {}"
    assert len(made.info["contexts"]) > 10
    (remark,) = varied["remarks"]
    near = remark.removeprefix("also kept: ").split(", ")
    assert len(near) == NEIGHBOURS
    assert varied["keep"][0] == "a heart"
    assert all(any(word in prompt.split() for prompt in varied["keep"]) for word in near)


def test_amplify_from_images(checkpoint: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    for i in range(2):
        Image.effect_noise((100, 80), 60 + i).convert("RGB").save(folder / f"{i}.png")
    out = tmp_path / "a.safetensors"
    arguments = ["--concept", "noise", "--objective", "amplify", "--images", str(folder), "--steps", "2", *SMALL, "--out", str(out)]
    code, _, err = run(capsys, "attribute", checkpoint, *arguments)
    assert code == 0, err
    code, _, err = run(capsys, "amplify", checkpoint, str(out), "--ratio", "0.02", "--out", str(tmp_path / "e.safetensors"))
    assert code == 0, err
    code, _, err = run(capsys, "erase", checkpoint, str(out), "--ratio", "0.02", "--out", str(tmp_path / "f.safetensors"))
    assert code == 2
    assert "was made to amplify, not to erase" in err


def test_verify_reports_every_ablation(checkpoint: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--concept", "a star", "--sets", "8", "--ratio", "0.01", "--trajectories", "2", "--steps", "2", *SMALL, "--json"]
    code, out, err = run(capsys, "verify", checkpoint, *arguments)
    assert code == 0, err
    result = json.loads(out)
    check = result["checks"]["random ablations"]
    first = check["predictions"]["first order"]
    assert len(check["true"]) == len(first["predicted"]) == result["sets"] == 8
    assert first["pearson"] == pytest.approx(float(np.corrcoef(check["true"], first["predicted"])[0, 1]))
    assert check["weights"] == [3563] * 8  # 1 % of 356,352


BAD = {
    "missing model": (["attribute", "nowhere.safetensors", "--concept", "a", "--out", "OUT"], "no such file"),
    "not a checkpoint": (["attribute", "TEXT", "--concept", "a", "--out", "OUT"], "not a complete safetensors"),
    "truncated checkpoint": (["attribute", "TRUNCATED", "--concept", "a", "--out", "OUT"], "not a complete safetensors"),
    "unknown architecture": (["attribute", "ATTRIBUTION", "--concept", "a", "--out", "OUT"], "ATTRIBUTION"),
    "empty concept": (["attribute", "MODEL", "--concept", " ", "--out", "OUT"], "the concept is empty"),
    "concept equals base": (["attribute", "MODEL", "--concept", "cat", "--base", "cat", "--out", "OUT"], "are the same"),
    "objective": (["attribute", "MODEL", "--concept", "a", "--objective", "x", "--out", "OUT"], "must be erase or amplify"),
    "components": (["attribute", "MODEL", "--concept", "a", "--components", "conv", "--out", "OUT"], "got 'conv'"),
    "steps": (["attribute", "MODEL", "--concept", "a", "--steps", "-1", "--out", "OUT"], "steps must be"),
    "too many steps": (["attribute", "MODEL", "--concept", "a", "--steps", "2000", "--out", "OUT"], "between 1 and 1000, "),
    "trajectories": (["attribute", "MODEL", "--concept", "a", "--trajectories", "0", "--out", "OUT"], "at least 1"),
    "width": (["attribute", "MODEL", "--concept", "a", "--width", "50", "--out", "OUT"], "--width must be a multiple of 16, got 50"),
    "spacing": (["attribute", "MODEL", "--concept", "a", "--spacing", "middling", "--out", "OUT"], "got 'middling'"),
    "device": (["attribute", "MODEL", "--concept", "a", "--device", "cuda:7", "--out", "OUT"], "cannot be used here"),
    "dtype": (["attribute", "MODEL", "--concept", "a", "--dtype", "int8", "--out", "OUT"], "--dtype must be one of"),
    "no images": (["attribute", "MODEL", "--concept", "a", "--objective", "amplify", "--images", "EMPTY", "--out", "OUT"], "has no images"),
    "bad image": (
        ["attribute", "MODEL", "--concept", "a", "--objective", "amplify", "--images", "BADIMAGES", "--out", "OUT"],
        "cannot read",
    ),
    "images when erasing": (["attribute", "MODEL", "--concept", "a", "--images", "EMPTY", "--out", "OUT"], "for --objective amplify"),
    "unwritable output": (["attribute", "MODEL", "--concept", "a", "--out", "NOFOLDER"], "make it first"),
    "output is a folder": (["attribute", "MODEL", "--concept", "a", "--out", "EMPTY"], "it is a folder"),
    "method": (["attribute", "MODEL", "--concept", "a", "--method", "best", "--out", "OUT"], "rounds, per harm, paper, got 'best'"),
    "no rounds": (["attribute", "MODEL", "--concept", "a", "--rounds", "0", "--out", "OUT"], "rounds must be at least 1, got 0"),
    "too many rounds": (["attribute", "MODEL", "--concept", "a", "--rounds", "21", "--out", "OUT"], "got 21"),
    "context": (["attribute", "MODEL", "--concept", "a", "--context", "a photo", "--out", "OUT"], "has no {} in the place"),
    "a kept concept": (["attribute", "MODEL", "--concept", "cat", "--keep", "Cat", "--out", "OUT"], "among the prompts to keep"),
    "ratio 0": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "0", "--out", "OUT"], "ratio must be in (0, 1], got 0"),
    "ratio 1.5": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "1.5", "--out", "OUT"], "ratio must be in (0, 1], got 1.5"),
    "ratio takes none": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "0.0001", "--out", "OUT"], "takes no weight"),
    "selection": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "0.01", "--select", "best", "--out", "OUT"], "got 'best'"),
    "strength": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "0.01", "--strength", "nan", "--out", "OUT"], "got nan"),
    "wrong kind": (["erase", "MODEL", "MODEL", "--ratio", "0.01", "--out", "OUT"], "not a CAD attribution file"),
    "output is the model": (["attribute", "MODEL", "--concept", "a", "--out", "MODEL"], "also named as another file"),
    "output is the attribution": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "0.02", "--out", "ATTRIBUTION"], "also named"),
    "output is the bake": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "0.02", "--out", "OUT", "--bake", "OUT"], "also named"),
    "plot onto the file": (["inspect", "ATTRIBUTION", "--plot", "ATTRIBUTION"], "also named"),
    "batch": (["attribute", "MODEL", "--concept", "a", "--batch", "0", "--out", "OUT"], "batch must be at least 1"),
    "cfg": (["attribute", "MODEL", "--concept", "a", "--cfg", "nan", "--out", "OUT"], "must be at least 1, got nan"),
    "seed": (["attribute", "MODEL", "--concept", "a", "--seed", "99999999999999999999", "--out", "OUT"], "seed must be between"),
    "strength of an edit": (["generate", "MODEL", "--prompt", "a", "--edit", "OUT:nan", "--out", "OUT"], "between 0 and 10, got nan"),
    "demo selection": (["demo", "--select", "best", "--out", "OUT"], "got 'best'"),
    "demo seed": (["demo", "--objective", "amplify", "--seed", "-1", "--out", "OUT"], "--seed must be between"),
    "missing attribution": (["erase", "MODEL", "nowhere", "--ratio", "0.01", "--out", "OUT"], "there is no file"),
    "other architecture": (["erase", "OTHER", "ATTRIBUTION", "--ratio", "0.01", "--out", "OUT"], "another architecture"),
    "bake onto itself": (["erase", "MODEL", "ATTRIBUTION", "--ratio", "0.02", "--out", "OUT", "--bake", "MODEL"], "the checkpoint itself"),
    "edit of another kind": (["generate", "MODEL", "--prompt", "a", "--edit", "ATTRIBUTION", "--out", "OUT"], "expected a CAD edit"),
    "missing lora": (["generate", "MODEL", "--prompt", "a", "--lora", "nowhere.safetensors", "--out", "OUT"], "nowhere.safetensors"),
    "count": (["generate", "MODEL", "--prompt", "a", "--count", "0", "--out", "OUT"], "--count must be at least 1"),
    "inspect a checkpoint": (["inspect", "MODEL"], "not a CAD file"),
    "inspect nothing": (["inspect", "nowhere"], "there is no file"),
    "demo concept": (["demo", "--concept", "van gogh", "--out", "OUT"], "does not know the concept 'van gogh'"),
    "demo into a file": (["demo", "--out", "TEXT"], "cannot make the folder"),
    "verify one set": (["verify", "MODEL", "--concept", "a", "--sets", "1"], "--sets must be at least 2"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(
    case: str, checkpoint: str, attribution: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message = BAD[case]
    places = {
        "MODEL": checkpoint,
        "ATTRIBUTION": attribution,
        "TEXT": str(tmp_path / "text.safetensors"),
        "TRUNCATED": str(tmp_path / "truncated.safetensors"),
        "EMPTY": str(tmp_path / "empty"),
        "BADIMAGES": str(tmp_path / "bad"),
        "NOFOLDER": str(tmp_path / "no" / "folder.safetensors"),
        "OUT": str(tmp_path / "out.safetensors"),
    }
    if "OTHER" in arguments:
        places["OTHER"] = str(make_tiny("sdxl").save(tmp_path / "other.safetensors"))
    (tmp_path / "text.safetensors").write_text("this is text")
    (tmp_path / "truncated.safetensors").write_bytes(Path(checkpoint).read_bytes()[:-100])
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "a.png").write_text("no picture")
    before, model = sorted(tmp_path.rglob("*")), Path(checkpoint).read_bytes()
    code, _, err = run(capsys, *(places.get(argument, argument) for argument in arguments))
    lines = [line for line in err.splitlines() if line.startswith("cad: error: ")]
    assert code == 2, err
    assert len(lines) == 1, err
    assert "Traceback" not in err
    assert places.get(message, message) in lines[0]
    assert sorted(tmp_path.rglob("*")) == before
    assert Path(checkpoint).read_bytes() == model


@pytest.mark.parametrize("method", ["rounds", "per harm", "paper"])
def test_a_base_that_says_the_same_as_the_concept_is_refused(method: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "star.safetensors"
    few = ["--steps", "2", "--trajectories", "1", "--no-vary", "--out", str(out)]
    code, _, err = run(capsys, "attribute", "sandbox", "--concept", "a star", "--base", "A  Star", "--method", method, *few)
    assert code == 2
    assert "concept and base prompt are the same to this model" in err
    assert not out.exists()


def test_a_picture_that_is_not_finite_becomes_no_black_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "cad_engine.checkpoints.denoiser.DiffusersDenoiser.decode",
        lambda self, latents: latents.new_full((len(latents), 3, 64, 64), torch.nan),
    )
    code, _, err = run(capsys, "generate", "sandbox", "--prompt", "a star", "--steps", "1", "--out", str(tmp_path))
    assert code == 2
    assert "a picture is not finite: the model overflows" in err
    assert not list(tmp_path.rglob("*.png"))
