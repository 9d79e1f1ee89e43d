"""Attribution and edit files: what is written is read back; what is damaged or hostile is refused in one line."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.edit import Edit, LayerEdit
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.errors import CadError
from cad_engine.files import METADATA_KEY
from cad_engine.selection import select
from tests.test_selection import reduced

NAME = "diffusion_model.middle_block.1.transformer_blocks.0.ff.net.2.weight"


@pytest.fixture
def edit_path(tmp_path: Path) -> Path:
    factor = torch.tensor([0.0, 0.5, 2.0])
    edit = Edit({NAME: LayerEdit(4, 6, torch.tensor([0, 7, 23]), factor), "b": LayerEdit(2, 2, torch.tensor([3]))}, {"concept": "star ☆"})
    save_edit(tmp_path / "edit.safetensors", edit)
    return tmp_path / "edit.safetensors"


def rewrite(path: Path, tensors: dict | None = None, metadata: dict | None = None, drop: str | None = None) -> Path:
    """The file again with some tensors or metadata entries replaced."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        meta = json.loads(json.loads(file.read(length))["__metadata__"][METADATA_KEY])
    meta.update(metadata or {})
    content = {**load_file(path), **(tensors or {})}
    content.pop(drop, None)
    save_file(content, path, metadata={METADATA_KEY: json.dumps(meta)})
    return path


def test_an_edit_survives_the_file(edit_path: Path) -> None:
    edit = load_edit(edit_path)
    assert edit.info == {"concept": "star ☆"}
    assert edit.layers[NAME].index.tolist() == [0, 7, 23]
    assert edit.layers[NAME].factor.tolist() == [0.0, 0.5, 2.0]
    assert edit.layers["b"].factor is None
    assert edit.layers["b"].shape == (2, 2)


@pytest.mark.parametrize("keep_ratio", [1.0, 0.02])
def test_an_attribution_survives_the_file(tmp_path: Path, keep_ratio: float) -> None:
    attribution = reduced(keep_ratio=keep_ratio)
    save_attribution(tmp_path / "a.safetensors", attribution)
    again = load_attribution(tmp_path / "a.safetensors")
    assert again.info == attribution.info
    assert again.timesteps == attribution.timesteps
    assert again.keep_ratio == keep_ratio
    for name, layer in attribution.layers.items():
        for field in ("index", "score", "row_mass", "timestep_mass", "histogram"):
            assert torch.equal(getattr(again.layers[name], field), getattr(layer, field)), field
    for rule in ("row", "row_min1", "layer", "global"):
        one, two = select(attribution, 0.02, rule), select(again, 0.02, rule)
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


BAD_EDITS = {
    "out of range": ({"tensors": {f"{NAME}:index": torch.tensor([0, 7, 24], dtype=torch.int32)}}, "must ascend within 0..23"),
    "negative": ({"tensors": {f"{NAME}:index": torch.tensor([-1, 7, 23], dtype=torch.int32)}}, "must ascend"),
    "twice": ({"tensors": {f"{NAME}:index": torch.tensor([7, 7, 23], dtype=torch.int32)}}, "must ascend"),
    "wrong dtype": ({"tensors": {f"{NAME}:index": torch.tensor([0.0, 7.0, 23.0])}}, "expected torch.int32"),
    "wrong shape": ({"tensors": {f"{NAME}:index": torch.zeros(1, 3, dtype=torch.int32)}}, "expected ['any']"),
    "NaN": ({"tensors": {f"{NAME}:factor": torch.tensor([0.0, float("nan"), 2.0])}}, "not finite"),
    "infinite": ({"tensors": {f"{NAME}:factor": torch.tensor([0.0, float("inf"), 2.0])}}, "not finite"),
    "short factor": ({"tensors": {f"{NAME}:factor": torch.zeros(2)}}, "expected [3]"),
    "foreign tensor": ({"tensors": {"evil": torch.zeros(2)}}, "belongs to no layer"),
    "missing tensor": ({"drop": f"{NAME}:index"}, "incomplete"),
    "version": ({"metadata": {"format_version": 99}}, "format version 99"),
    "kind": ({"metadata": {"kind": "attribution"}}, "expected a CAD edit"),
    "no shapes": ({"metadata": {"shapes": {}}}, "names no layers"),
    "huge shape": ({"metadata": {"shapes": {NAME: [1 << 30, 1 << 30], "b": [2, 2]}}}, "expected two positive sides"),
    "negative shape": ({"metadata": {"shapes": {NAME: [-4, 6], "b": [2, 2]}}}, "expected two positive sides"),
    "odd shape": ({"metadata": {"shapes": {NAME: "4x6", "b": [2, 2]}}}, "expected two positive sides"),
    "info": ({"metadata": {"info": "hello"}}, "no 'info' object"),
}


@pytest.mark.parametrize("case", BAD_EDITS)
def test_a_damaged_or_hostile_edit_is_refused(edit_path: Path, case: str) -> None:
    change, message = BAD_EDITS[case]
    rewrite(edit_path, **change)
    with pytest.raises(CadError) as error:
        load_edit(edit_path)
    assert message in str(error.value)
    assert str(edit_path) in str(error.value)
    assert "\n" not in str(error.value)


BAD_ATTRIBUTIONS = {
    "NaN": ({"tensors": {"a.ff.weight:score": None}}, "not finite"),
    "columns": ({"tensors": {"c.ff.weight:column": None}}, "must be within"),
    "objective": ({"metadata": {"info": {"objective": "destroy"}}}, "objective must be"),
    "timesteps": ({"metadata": {"timesteps": ["x"]}}, "timesteps"),
    "keep ratio": ({"metadata": {"keep_ratio": 7}}, "keep_ratio"),
    "row counts": ({"tensors": {"c.ff.weight:row_count": torch.full((7,), -1, dtype=torch.int32)}}, "row counts"),
    "mass": ({"tensors": {"c.ff.weight:row_mass": torch.zeros(3, 2)}}, "expected [7, 2]"),
}


@pytest.mark.parametrize("case", BAD_ATTRIBUTIONS)
def test_a_damaged_attribution_is_refused(tmp_path: Path, case: str) -> None:
    path = tmp_path / "a.safetensors"
    save_attribution(path, reduced())
    change, message = BAD_ATTRIBUTIONS[case]
    tensors = load_file(path)
    if case == "NaN":
        change = {"tensors": {"a.ff.weight:score": torch.full_like(tensors["a.ff.weight:score"], float("nan"))}}
    if case == "columns":
        column = tensors["c.ff.weight:column"].clone()
        column[-1] = 64
        change = {"tensors": {"c.ff.weight:column": column}}
    rewrite(path, **change)
    with pytest.raises(CadError, match=message.replace("[", r"\[").replace("]", r"\]")):
        load_attribution(path)


def test_other_files_are_refused(tmp_path: Path, edit_path: Path) -> None:
    cases: dict[str, bytes] = {
        "empty": b"",
        "text": b"hello, this is no safetensors file at all",
        "pickle": b"\x80\x04\x95" + b"0" * 64,
        "truncated": edit_path.read_bytes()[:-3],
        "header only": edit_path.read_bytes()[:40],
        "endless header": struct.pack("<Q", 1 << 60) + b"{" + b" " * 100,
        "huge header": struct.pack("<Q", 30_000_000) + b"{" + b" " * 30_000_000,
        "broken json": struct.pack("<Q", 20) + b"{" + b"x" * 19,
    }
    for name, content in cases.items():
        path = tmp_path / f"{name}.safetensors"
        path.write_bytes(content)
        with pytest.raises(CadError) as error:
            load_edit(path)
        assert str(path) in str(error.value), name
        assert "\n" not in str(error.value)
    save_file({"a": torch.zeros(2)}, tmp_path / "plain.safetensors")
    with pytest.raises(CadError, match="no 'cad' metadata"):
        load_edit(tmp_path / "plain.safetensors")
    with pytest.raises(CadError, match="there is no file"):
        load_edit(tmp_path / "missing.safetensors")
    with pytest.raises(CadError, match="is a folder"):
        load_edit(tmp_path)


def header_with(entry: str) -> bytes:
    """A safetensors file whose only content is the metadata `entry`, as raw JSON text."""
    header = json.dumps({"__metadata__": {METADATA_KEY: entry}}).encode()
    return struct.pack("<Q", len(header)) + header


@pytest.mark.parametrize(
    "entry",
    [
        '{"format_version": 1, "kind": "edit", "info": {"a": NaN}, "shapes": {"b": [1, 1]}}',
        '{"format_version": 1, "kind": "edit", "info": {"a": "\\ud800"}, "shapes": {"b": [1, 1]}}',
        '{"format_version": 1, "kind": "edit", "info": {"a": ' + "9" * 5000 + '}, "shapes": {"b": [1, 1]}}',
        '{"format_version": "' + "x" * 100_000 + '", "kind": "edit"}',
        '{"format_version": 1, "kind": "edit", "info": {}, "shapes": {"a\\n\\u001b[31m": [0, 1]}}',
        "[" * 100_000,
        "[]",
    ],
    ids=["NaN", "surrogate", "endless number", "endless version", "control characters", "endless nesting", "no object"],
)
def test_hostile_metadata_is_one_short_printable_line(tmp_path: Path, entry: str) -> None:
    path = tmp_path / "hostile.safetensors"
    path.write_bytes(header_with(entry))
    with pytest.raises(CadError) as error:
        load_edit(path)
    assert str(error.value).isprintable()
    assert len(str(error.value)) < 1000


@pytest.mark.skipif(not hasattr(os, "fork"), reason="limits of a process are set with POSIX's resource module")
def test_a_full_disk_is_one_line_and_leaves_the_old_file(edit_path: Path) -> None:
    code = (
        "import resource, signal, sys; from pathlib import Path; import torch; from cad_engine.files import write\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "write(Path(sys.argv[1]), 'edit', {'a': torch.zeros(100_000)}, {})"
    )
    old = edit_path.read_bytes()
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", code, str(edit_path)], cwd=root, capture_output=True, text=True, check=False)
    assert "cad_engine.errors.CadError: cannot write" in done.stderr
    assert edit_path.read_bytes() == old
    assert [p.name for p in edit_path.parent.iterdir()] == ["edit.safetensors"]


def test_wrong_kind_names_both(tmp_path: Path) -> None:
    save_attribution(tmp_path / "a.safetensors", reduced())
    with pytest.raises(CadError, match="is a CAD 'attribution' file, expected a CAD edit file"):
        load_edit(tmp_path / "a.safetensors")


def test_an_unwritable_place_leaves_nothing(tmp_path: Path, edit_path: Path) -> None:
    edit = load_edit(edit_path)
    with pytest.raises(CadError, match="cannot write"):
        save_edit(tmp_path / "no" / "such" / "folder.safetensors", edit)
    (tmp_path / "taken").mkdir()
    with pytest.raises(CadError, match="cannot write"):
        save_edit(tmp_path / "taken", edit)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["edit.safetensors", "taken"]


def test_a_failed_write_keeps_the_old_file(edit_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit, old = load_edit(edit_path), edit_path.read_bytes()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(CadError, match="No space left"):
        save_edit(edit_path, edit)
    assert edit_path.read_bytes() == old
    assert [p.name for p in edit_path.parent.iterdir()] == ["edit.safetensors"]
