"""The nodes that read and write files, in a real server: what was saved comes back, and no name or file can do harm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from cad_engine.attribution_file import load_attribution
from cad_engine.edit import Edit, LayerEdit
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.files import read_info
from tests.comfyui import comfyui

from .graph import Graph, Link, Node
from .server import Problem, Result, Server

pytestmark = pytest.mark.comfyui

ATTRIBUTE = {"concept": "a star", "base": "a shape", "keep": "", "objective": "erase", "components": "ff", "trajectories": 2, "steps": 3}
ATTRIBUTE |= {"cfg": 3.0, "seed": 0, "width": 0, "height": 0, "prompt": "", "spacing": "trailing", "batch": 8, "checkpointing": False}
ATTRIBUTE |= {"largest_ratio": 0.0, "cache": True, "contexts": "", "method": "paper", "rounds": 3}
ERASE = {"ratio": 0.05, "selection": "row", "strength": 1.0}

BAD_NAMES = {
    "": "empty",
    "   ": "empty",
    ".safetensors": "empty",
    "../escape": "another folder",
    "..": "dot",
    "sub/name": "another folder",
    "sub\\name": "another folder",
    "/etc/name": "another folder",
    "C:name": "another folder",
    ".hidden": "dot",
    "dot.": "dot",
    " space": "space",
    "space ": "space",
    "nul": "Windows",
    "CON.backup": "Windows",
    "com1": "Windows",
    "LPT³": "Windows",
    "line\nbreak": "not allowed",
    "zero\x00byte": "not allowed",
    "right\u202eleft": "not allowed",
    "lone\ud800surrogate": "not allowed",
    "star*": "not allowed",
    "what?": "not allowed",
    'quo"te': "not allowed",
    "<b>": "not allowed",
    "pipe|": "not allowed",
    "$HOME": "not allowed",
    "%TEMP%": "not allowed",
    "~": "not allowed",
    "x" * 121: "120 characters",
    "名" * 67: "200 bytes",
    "x" * 100_000: "120 characters",
}
GOOD_NAMES = [
    "star",
    "Van Gogh (v1.2) + more_-",
    "ゴッホ風",
    "звезда 2",
    "नमूना",
    "étoile",
    "名" * 66,
    "x" * 120,
    "console",
    "com10",
    "a..b",
]


def sentence(problem: Problem | None, about: str) -> None:
    """A message for people: one line that names what it is about."""
    assert problem is not None
    text = problem.message if problem.message and "validation" not in problem.message else problem.details
    assert about in text
    assert "\n" not in text
    assert 20 < len(text) < 600
    assert "Traceback" not in text


def refused(result: Result, node: Node, about: str) -> None:
    """The prompt was not even begun, because of `node`."""
    assert result.prompt_id is None
    assert result.executed == []
    (problem,) = result.node_errors[node.id]
    assert problem.type == "custom_validation_failed"
    sentence(problem, about)


def failed(result: Result, node: Node, about: str) -> None:
    """`node` raised a CadError when it was its turn."""
    assert result.error is not None
    assert result.error.node_id == node.id
    assert result.error.type.endswith("CadError")
    sentence(result.error, about)


def sandbox(graph: Graph) -> tuple[Link, Link, Link]:
    node = graph.add("CADLoadSandbox")
    return node[0], node[1], node[2]


def painted(graph: Graph, model: Link | Node, clip: Link, vae: Link) -> Node:
    """One picture of a red star, by the stock nodes."""
    positive, negative = (graph.add("CLIPTextEncode", text=text, clip=clip) for text in ("a red star", ""))
    latent = graph.add("EmptyLatentImage", width=64, height=64, batch_size=1)
    sampling = {"seed": 3, "steps": 4, "cfg": 3.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0}
    sampled = graph.add("KSampler", model=model, positive=positive, negative=negative, latent_image=latent, **sampling)
    return graph.add("SaveImage", images=graph.add("VAEDecode", samples=sampled, vae=vae), filename_prefix="files")


def edits(server: Server) -> Path:
    return server.models / "cad_edits"


def attributions(server: Server) -> Path:
    return server.models / "cad_attributions"


@pytest.fixture(scope="module")
def saved(server: Server) -> Result:
    """attribution "files-star" and edit "files-star" are there, made by the nodes."""
    graph = Graph()
    model, clip, _ = sandbox(graph)
    made = graph.add("CADAttribute", model=model, clip=clip, **ATTRIBUTE)
    kept = graph.add("CADSaveAttribution", attribution=made, name="files-star", overwrite=True)
    erased = graph.add("CADErase", model=model, attribution=kept, **ERASE)
    graph.add("CADSaveEdit", edit=erased[1], name="files-star", overwrite=True)
    return server.run(graph.prompt).check()


def copy_edit(server: Server, name: object, overwrite: bool = False) -> tuple[Result, Node]:
    """Load the saved edit and save it as `name`."""
    graph = Graph()
    loaded = graph.add("CADLoadEdit", name="files-star.safetensors")
    node = graph.add("CADSaveEdit", edit=loaded, name=name, overwrite=overwrite)
    return server.run(graph.prompt), node


def load_and_save(server: Server, kind: str, name: object) -> tuple[Result, Node]:
    """Load a file of `kind` ("Edit", "Attribution") and save it again; the Load node is returned."""
    graph = Graph()
    loaded = graph.add(f"CADLoad{kind}", name=name)
    graph.add(f"CADSave{kind}", **{kind.lower(): loaded}, name="files-scratch", overwrite=True)
    return server.run(graph.prompt), loaded


def apply(server: Server, name: object, strength: object = 1.0) -> tuple[Result, Node, Node]:
    """Paint with an edit applied; the Apply node and the node with the picture are returned."""
    graph = Graph()
    model, clip, vae = sandbox(graph)
    applied = graph.add("CADApplyEdit", model=model, edit_name=name, strength=strength)
    picture = painted(graph, applied, clip, vae)
    return server.run(graph.prompt), applied, picture


def still_works(server: Server) -> None:
    apply(server, "files-star.safetensors")[0].check()


def pixels(server: Server, result: Result, node: Node) -> np.ndarray:
    (picture,) = server.images(result, node.id)
    assert isinstance(picture, Image.Image)
    return np.asarray(picture)


# What is saved


def test_files_say_what_they_are_and_nodes_what_they_wrote(server: Server, saved: Result) -> None:
    attribution = load_attribution(attributions(server) / "files-star.safetensors")
    assert attribution.info["concept"] == "a star"
    edit = load_edit(edits(server) / "files-star.safetensors")
    assert (edit.info["ratio"], edit.info["concept"]) == (0.05, "a star")
    entries = [entry for output in saved.outputs.values() for entry in output["cad_file"]]
    assert {(entry["folder"], entry["name"]) for entry in entries} == {
        ("cad_attributions", "files-star.safetensors"),
        ("cad_edits", "files-star.safetensors"),
    }
    for entry in entries:
        assert entry["bytes"] == (server.models / entry["folder"] / entry["name"]).stat().st_size
    texts = [text for node in saved.outputs for text in saved.texts(node)]
    assert any(text.startswith("models/cad_edits/files-star.safetensors, ") and text.endswith("kB") for text in texts)
    assert {path.suffix for path in edits(server).iterdir()} == {".safetensors"}  # nothing unfinished is left


def test_folders_and_files_are_listed_as_model_folders(server: Server, saved: Result) -> None:
    assert {"cad_attributions", "cad_edits"} <= set(server.get("/models"))
    assert "files-star.safetensors" in server.get("/models/cad_edits")
    (edits(server) / "notes.txt").write_text("not an edit", encoding="utf-8")
    assert "notes.txt" not in server.get("/models/cad_edits")
    (edits(server) / "notes.txt").unlink()
    for node, name in (("CADLoadEdit", "name"), ("CADApplyEdit", "edit_name"), ("CADLoadAttribution", "name")):
        assert "files-star.safetensors" in server.object_info()[node]["input"]["required"][name][1]["options"]


def test_what_was_saved_comes_back_bit_for_bit(server: Server, saved: Result) -> None:
    for kind, folder in (("Edit", edits(server)), ("Attribution", attributions(server))):
        result, loaded = load_and_save(server, kind, "files-star.safetensors")
        result.check()
        first, again = (load_file(folder / f"{name}.safetensors") for name in ("files-star", "files-scratch"))
        assert first.keys() == again.keys()
        assert all(torch.equal(first[name], again[name]) for name in first)
        assert read_info(folder / "files-star.safetensors") == read_info(folder / "files-scratch.safetensors")
        assert "'a star'" in result.texts(loaded.id)[-1]


def test_without_overwrite_no_file_is_lost(server: Server, saved: Result) -> None:
    names = [f"numbered{number}.safetensors" for number in ("", "-2", "-3")]
    for name in names:
        server.free(cache=True)  # else the same prompt is not run again
        result, node = copy_edit(server, "numbered")
        assert result.check().outputs[node.id]["cad_file"][0]["name"] == name
    contents = [(edits(server) / name).read_bytes() for name in names]
    assert contents[0] == contents[1] == contents[2]
    (edits(server) / names[1]).write_bytes(b"to be replaced")
    result, node = copy_edit(server, "numbered-2.safetensors", overwrite=True)
    assert result.check().outputs[node.id]["cad_file"][0]["name"] == names[1]
    assert (edits(server) / names[1]).read_bytes() == contents[0]


def test_a_folder_that_was_deleted_is_made_again(server: Server, saved: Result) -> None:
    aside = server.folder / "aside"
    content = (edits(server) / "files-star.safetensors").read_bytes()
    graph = Graph()
    loaded = graph.add("CADLoadAttribution", name="files-star.safetensors")
    model, _, _ = sandbox(graph)
    erased = graph.add("CADErase", model=model, attribution=loaded, **ERASE)
    graph.add("CADSaveEdit", edit=erased[1], name="files-star", overwrite=False)
    edits(server).rename(aside)
    try:
        server.run(graph.prompt).check()
        assert (edits(server) / "files-star.safetensors").read_bytes() == content
    finally:
        shutil.rmtree(edits(server), ignore_errors=True)
        aside.rename(edits(server))


@pytest.mark.parametrize("name", GOOD_NAMES)
def test_good_names(server: Server, saved: Result, name: str) -> None:
    copy_edit(server, name)[0].check()
    path = edits(server) / f"{name}.safetensors"
    assert len(load_edit(path)) > 0
    load_and_save(server, "Edit", path.name)[0].check()


# Names that could do harm


@pytest.mark.parametrize("name", ["../escape", "", "nul", "x" * 100_000, "sub\\name", "line\nbreak", "lone\ud800surrogate"])
def test_bad_names_are_refused_before_anything_runs(server: Server, saved: Result, name: str) -> None:
    before = sorted(server.folder.rglob("*.safetensors"))
    result, node = copy_edit(server, name)
    refused(result, node, BAD_NAMES[name])
    graph = Graph()
    loaded = graph.add("CADLoadAttribution", name="files-star.safetensors")
    node = graph.add("CADSaveAttribution", attribution=loaded, name=name, overwrite=True)
    refused(server.run(graph.prompt), node, BAD_NAMES[name])
    assert sorted(server.folder.rglob("*.safetensors")) == before


def test_a_bad_name_from_another_node_is_refused_when_it_arrives(server: Server, saved: Result) -> None:
    graph = Graph()
    loaded = graph.add("CADLoadEdit", name="files-star.safetensors")
    text = graph.add("StringConcatenate", string_a="..", string_b="escape", delimiter="/")
    node = graph.add("CADSaveEdit", edit=loaded, name=text, overwrite=True)
    failed(server.run(graph.prompt), node, "another folder")
    assert not list(server.models.rglob("*escape*"))


@pytest.mark.parametrize(
    "name",
    [
        "../cad_attributions/files-star.safetensors",
        "..\\cad_attributions\\files-star.safetensors",
        "/etc/passwd",
        "files-star",
        "missing.safetensors",
        "",
        "x" * 100_000,
        "a\nb.safetensors",
        5,
        True,
        {"a": 1},
        [1, 2, 3],
    ],
    ids=str,
)
def test_only_listed_files_are_read(server: Server, saved: Result, name: object) -> None:
    if isinstance(name, list):
        name = {"__value__": name}
    for node, inputs in (("CADLoadEdit", {"name": name}), ("CADApplyEdit", {"edit_name": name, "strength": 1.0})):
        graph = Graph()
        if node == "CADApplyEdit":
            inputs["model"] = sandbox(graph)[0]
        loaded = graph.add(node, **inputs)
        graph.add("CADSaveEdit", edit=loaded[0 if node == "CADLoadEdit" else 1], name="files-scratch", overwrite=True)
        refused(server.run(graph.prompt), loaded, "models/cad_edits")


def test_names_and_folders_without_a_server(tmp_path: Path) -> None:
    root, python = comfyui()
    script = Path(__file__).parent / "comfyui_side/names.py"
    names = [*(name for name in BAD_NAMES if len(name) < 1000), *GOOD_NAMES, "e\u0301toile.safetensors", None, 3, ["x"]]
    command = [str(python), str(script), str(tmp_path / "mine"), json.dumps(names)]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(root)}, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    safe = dict(zip(map(str, names), answer["names"], strict=True))
    for name in GOOD_NAMES:
        assert safe[name] == name
    assert safe["e\u0301toile.safetensors"] == "étoile"
    for name, reason in BAD_NAMES.items():
        if name in safe:
            assert safe[name] is None
            assert reason in answer["refusals"][name]
            assert answer["refusals"][name].isprintable()
    assert safe["None"] is safe["3"] is safe["['x']"] is None
    own = str(root / "models")
    assert answer["folders"]["cad_edits"] == [[str(tmp_path / "mine"), os.path.join(own, "cad_edits")], [".safetensors"]]
    assert answer["folders"]["cad_attributions"] == [[os.path.join(own, "cad_attributions")], [".safetensors"]]


# Files that could do harm


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def without_header(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:20])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def pickled(path: Path) -> None:
    torch.save({"a": torch.zeros(3)}, path)


def foreign(path: Path) -> None:
    save_file({"a": torch.zeros(3)}, path)


def with_nan(path: Path) -> None:
    info = read_info(path)
    tensors = load_file(path)
    name = next(name for name in tensors if name.endswith(("score", "index")))
    if name.endswith("index"):
        tensors[name.replace("index", "factor")] = torch.full((len(tensors[name]),), torch.nan)
    else:
        tensors[name][0] = torch.nan
    save_file(tensors, path, metadata={"cad": json.dumps({"format_version": 1, **info})})


@pytest.mark.parametrize("kind", ["Edit", "Attribution"])
@pytest.mark.parametrize(
    ("damage", "about"),
    [
        (truncated, "damaged"),
        (without_header, "truncated"),
        (empty, "not a safetensors file"),
        (pickled, "not a safetensors file"),
        (foreign, "not a CAD"),
        (with_nan, "not finite"),
    ],
)
def test_damaged_files(server: Server, saved: Result, kind: str, damage: Callable[[Path], None], about: str) -> None:
    folder = edits(server) if kind == "Edit" else attributions(server)
    path = folder / f"damaged-{damage.__name__}.safetensors"
    shutil.copy(folder / "files-star.safetensors", path)
    damage(path)
    result, loaded = load_and_save(server, kind, path.name)
    failed(result, loaded, about)
    assert path.name in result.error.message  # type: ignore[union-attr]
    if kind == "Edit":
        result, applied, _ = apply(server, path.name)
        failed(result, applied, about)
    still_works(server)


def test_a_file_of_the_other_kind(server: Server, saved: Result) -> None:
    shutil.copy(attributions(server) / "files-star.safetensors", edits(server) / "wrong.safetensors")
    shutil.copy(edits(server) / "files-star.safetensors", attributions(server) / "wrong.safetensors")
    result, loaded = load_and_save(server, "Edit", "wrong.safetensors")
    failed(result, loaded, "is a CAD 'attribution' file, expected a CAD edit file")
    result, applied, _ = apply(server, "wrong.safetensors")
    failed(result, applied, "is a CAD 'attribution' file, expected a CAD edit file")
    result, loaded = load_and_save(server, "Attribution", "wrong.safetensors")
    failed(result, loaded, "is a CAD 'edit' file, expected a CAD attribution file")
    still_works(server)


def test_a_file_that_is_deleted_after_it_was_listed(server: Server, saved: Result) -> None:
    for kind, folder in (("Edit", edits(server)), ("Attribution", attributions(server))):
        path = folder / "deleted.safetensors"
        shutil.copy(folder / "files-star.safetensors", path)
        load_and_save(server, kind, path.name)[0].check()
        path.unlink()
        result, loaded = load_and_save(server, kind, path.name)
        refused(result, loaded, "there is no file 'deleted.safetensors' in models/cad_")
    result, applied, _ = apply(server, "deleted.safetensors")
    refused(result, applied, "there is no file 'deleted.safetensors' in models/cad_edits")
    still_works(server)


@contextmanager
def emptied(folder: Path) -> Iterator[None]:
    aside = folder.with_name(f"{folder.name} aside")
    folder.rename(aside)
    folder.mkdir()
    try:
        yield
    finally:
        folder.rmdir()
        aside.rename(folder)


def test_empty_folders_say_where_to_put_files(server: Server, saved: Result) -> None:
    with emptied(edits(server)), emptied(attributions(server)):
        info = server.object_info()
        for node, name, folder in (
            ("CADLoadEdit", "name", "models/cad_edits"),
            ("CADApplyEdit", "edit_name", "models/cad_edits"),
            ("CADLoadAttribution", "name", "models/cad_attributions"),
        ):
            (offered,) = info[node]["input"]["required"][name][1]["options"]
            assert offered == f"(no files in {folder})"
        result, applied, _ = apply(server, "(no files in models/cad_edits)")
        refused(result, applied, "there are no files in models/cad_edits yet")
        result, loaded = load_and_save(server, "Attribution", "(no files in models/cad_attributions)")
        refused(result, loaded, "there are no files in models/cad_attributions yet")
    still_works(server)


def test_a_file_that_has_changed_is_read_again(server: Server, saved: Result) -> None:
    path = edits(server) / "changing.safetensors"
    edit = load_edit(edits(server) / "files-star.safetensors")
    save_edit(path, edit)
    result, loaded = load_and_save(server, "Edit", path.name)
    assert loaded.id in result.check().executed
    result, loaded = load_and_save(server, "Edit", path.name)
    assert loaded.id not in result.check().executed
    edit.info["concept"] = "something else"
    save_edit(path, edit)
    result, loaded = load_and_save(server, "Edit", path.name)
    assert "'something else'" in result.check().texts(loaded.id)[-1]
    result, applied, _ = apply(server, path.name)
    assert applied.id in result.check().executed
    edit.info["concept"] = "yet another"
    save_edit(path, edit)
    result, applied, _ = apply(server, path.name)
    assert "'yet another'" in result.check().texts(applied.id)[-1]
    assert load_edit(edits(server) / "files-scratch.safetensors").info["concept"] == "something else"


# Applying


def test_applying_paints_what_erasing_painted(server: Server, saved: Result) -> None:
    graph = Graph()
    model, clip, vae = sandbox(graph)
    loaded = graph.add("CADLoadAttribution", name="files-star.safetensors")
    nodes = {
        "plain": painted(graph, model, clip, vae),
        "erased": painted(graph, graph.add("CADErase", model=model, attribution=loaded, **ERASE)[0], clip, vae),
        "half": painted(graph, graph.add("CADErase", model=model, attribution=loaded, **ERASE | {"strength": 0.5})[0], clip, vae),
        **{
            f"apply {strength}": painted(
                graph, graph.add("CADApplyEdit", model=model, edit_name="files-star.safetensors", strength=strength), clip, vae
            )
            for strength in (0.0, 0.5, 1.0)
        },
    }
    result = server.run(graph.prompt).check()
    pictures = {name: pixels(server, result, node) for name, node in nodes.items()}
    assert np.array_equal(pictures["apply 1.0"], pictures["erased"])
    assert np.array_equal(pictures["apply 0.5"], pictures["half"])
    assert np.array_equal(pictures["apply 0.0"], pictures["plain"])
    assert not np.array_equal(pictures["erased"], pictures["plain"])
    assert not np.array_equal(pictures["half"], pictures["erased"])


def test_the_applied_edit_goes_on_with_its_strength(server: Server, saved: Result) -> None:
    graph = Graph()
    applied = graph.add("CADApplyEdit", model=sandbox(graph)[0], edit_name="files-star.safetensors", strength=0.25)
    graph.add("CADSaveEdit", edit=applied[1], name="quarter", overwrite=True)
    result = server.run(graph.prompt).check()
    edit, original = load_edit(edits(server) / "quarter.safetensors"), load_edit(edits(server) / "files-star.safetensors")
    assert edit.layers.keys() == original.layers.keys()
    for name, layer in edit.layers.items():
        assert torch.equal(layer.index, original.layers[name].index)
        assert torch.equal(layer.factors(1.0), torch.full((len(layer.index),), 0.75))
    assert edit.info["strength"] == 0.25
    text = result.texts(applied.id)[-1]
    assert f"{len(original):,} weights" in text
    assert "'a star'" in text
    assert "other weights" not in text


def test_an_edit_from_other_weights_is_applied_with_a_warning(server: Server, saved: Result) -> None:
    edit = load_edit(edits(server) / "files-star.safetensors")
    edit.info |= {"fingerprint": "0123456789abcdef", "base_fingerprint": "0123456789abcdef"}
    save_edit(edits(server) / "tuned.safetensors", edit)
    result, applied, picture = apply(server, "tuned.safetensors")
    assert "made from other weights (fingerprint 0123456789abcdef)" in result.check().texts(applied.id)[-1]
    plain, _, expected = apply(server, "files-star.safetensors")
    assert np.array_equal(pixels(server, result, picture), pixels(server, plain, expected))


@pytest.mark.parametrize("case", ["another name", "another shape"])
def test_an_edit_of_another_architecture(server: Server, saved: Result, case: str) -> None:
    name = "diffusion_model.input_blocks.1.1.transformer_blocks.0.ff.net.2.weight"
    if case == "another name":
        name = "diffusion_model.input_blocks.11.1.transformer_blocks.0.ff.net.2.weight"
    layer = LayerEdit(320, 1280, torch.tensor([0, 5, 9]))
    save_edit(edits(server) / "sd15.safetensors", Edit({name: layer}, {"concept": "van gogh", "objective": "erase"}))
    result, applied, _ = apply(server, "sd15.safetensors")
    failed(result, applied, "this edit is for another architecture")
    still_works(server)


@pytest.mark.parametrize("strength", ["nan", 10.5, -11.0, "strong"])
def test_strengths_that_make_no_sense(server: Server, saved: Result, strength: str | float) -> None:
    result, applied, _ = apply(server, "files-star.safetensors", strength)
    if strength == "nan":  # which ComfyUI takes for a number
        failed(result, applied, "strength must be a number")
    else:
        assert result.prompt_id is None
        assert applied.id in result.node_errors
    still_works(server)


@pytest.mark.parametrize(
    "info",
    [
        {},
        {"concept": {"nested": ["\x1b[31m", "<script>"]}, "objective": 5},
        {"combined": [{"concept": "a", "objective": "erase"}, "not an object", {"combined": "deep"}, 4, 5]},
        {"concept": "x" * 100_000 + "\x00\u202e", "fingerprint": "y" * 100_000},
    ],
)
def test_whatever_an_edit_says_of_itself_is_only_text(server: Server, saved: Result, info: dict[str, object]) -> None:
    edit = load_edit(edits(server) / "files-star.safetensors")
    edit.info = info
    save_edit(edits(server) / "hostile.safetensors", edit)
    result, applied, _ = apply(server, "hostile.safetensors")
    text = result.check().texts(applied.id)[-1]
    assert f"{len(edit):,} weights" in text
    assert "<script" not in text  # 0.3.64's front end takes it for HTML
    assert text.replace("\n", "").replace("<\u200b", "<").isprintable()
    assert len(text) < 1000
