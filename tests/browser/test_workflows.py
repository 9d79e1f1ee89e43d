"""Every shipped workflow in the real front end on a real server: listed, loaded without a complaint, and run to its end."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests
from PIL import Image

from cad_engine.sandbox.judge import Judge
from cad_engine.sandbox.world import PICTURE_SIZE
from tests.comfyui import skip_without_nudenet
from tests.nodes.sandbox_graphs import as_tensor
from tests.nodes.server import PACK, Result, Server

from .page import FrontEnd, front_end
from .stand_in import on_the_sandbox, save_lora

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.comfyui, pytest.mark.browser]

FILES = sorted((PACK / "workflows").glob("*.json"))
NAMES = [file.stem for file in FILES]
TWINS = sorted((PACK / "workflows" / "api").glob("*.json"))
SCREEN = (2880, 1620)
NOT_THERE = {
    "v1-5-pruned-emaonly-fp16.safetensors",
    "sd_xl_base_1.0.safetensors",
    "MoXinV1.safetensors",
    "van-gogh-sd15.safetensors",
}
"""Files that workflows name and that nobody has before getting or making them."""
LORA = "MoXinV1.safetensors"
EDIT_MAKER = "cad_erase_artist_style_sd15"
PAINTED = {
    "cad_sandbox_erase_before_after": 4 * 9,
    "cad_several_concepts": 6 * 9,
    "cad_amplify_from_images": 4 * 9 + 24 + 5,
    "cad_erase_artist_style_sd15": 4 * 2,
    "cad_erase_object_sdxl": 4,
    "cad_apply_shared_edit": 4 * 2,
    "cad_combine_with_lora": 3 * 2,
    "cad_safety_filter": 4,
    "cad_sandbox_audit": 1,
}
"""How many pictures each leaves when it is run."""


def workflow(name: str) -> dict[str, Any]:
    return json.loads((PACK / "workflows" / f"{name}.json").read_text(encoding="utf-8"))  # type: ignore[no-any-return]


def nodes_2(server: Server) -> bool:
    """Whether this front end has Nodes 2.0 (1.27 has a first attempt at it)."""
    version = server.get("/system_stats")["system"]["comfyui_version"]
    return [int(part) for part in version.split(".")] > [0, 3, 64]


@pytest.fixture(scope="module")
def prepared(server: Server) -> Server:
    """The server, with the picture that every ComfyUI has in its input folder."""
    shutil.copy(server.root / "input" / "example.png", server.input)
    server.forget()
    return server


@pytest.fixture(scope="module", params=["canvas", "nodes 2.0"])
def front(request: pytest.FixtureRequest, browser: Browser, prepared: Server) -> Iterator[FrontEnd]:
    if request.param == "nodes 2.0" and not nodes_2(prepared):
        pytest.skip("this front end has no Nodes 2.0")
    with front_end(browser, prepared.url, {"Comfy.VueNodes.Enabled": request.param == "nodes 2.0"}, SCREEN) as opened:
        yield opened


def test_all_of_them_are_here() -> None:
    assert set(NAMES) == set(PAINTED)
    assert {file.stem for file in TWINS} == {"cad_sandbox_erase_before_after", "cad_apply_shared_edit", "cad_safety_filter"}


# Listed


def test_the_template_browser_lists_these_and_no_others(server: Server) -> None:
    listed = server.get("/workflow_templates")
    assert [sorted(names) for names in listed.values() if set(names) & set(NAMES)] == [NAMES]


@pytest.mark.parametrize("name", NAMES)
def test_workflow_and_thumbnail_are_served(server: Server, name: str) -> None:
    pack = next(pack for pack, names in server.get("/workflow_templates").items() if name in names)
    address = f"{server.url}/api/workflow_templates/{pack}/{name}"
    assert requests.get(f"{address}.json", timeout=60).json() == workflow(name)
    thumbnail = requests.get(f"{address}.jpg", timeout=60)
    assert (thumbnail.status_code, thumbnail.headers["Content-Type"]) == (200, "image/jpeg")
    assert len(thumbnail.content) < 100_000
    with Image.open(PACK / "workflows" / f"{name}.jpg") as picture:
        assert picture.size == (512, 512)


# Drawn


def boxes(content: dict[str, Any]) -> dict[str, tuple[float, float, float, float]]:
    """Left, top, right, bottom of every node, with its title bar."""
    return {
        f"{node['type']} {node['id']}": (
            node["pos"][0],
            node["pos"][1] - 30,
            node["pos"][0] + node["size"][0],
            node["pos"][1] + node["size"][1],
        )
        for node in content["nodes"]
    }


@pytest.mark.parametrize("name", NAMES)
def test_no_two_nodes_overlap(name: str) -> None:
    for (first, a), (second, b) in combinations(boxes(workflow(name)).items(), 2):
        assert a[2] <= b[0] or b[2] <= a[0] or a[3] <= b[1] or b[3] <= a[1], f"{first} and {second}"


@pytest.mark.parametrize("name", NAMES)
def test_every_node_is_in_one_group_or_a_note(name: str) -> None:
    content = workflow(name)
    frames = [(x, y, x + width, y + height) for x, y, width, height in (group["bounding"] for group in content["groups"])]
    for node, box in boxes(content).items():
        around = [f for f in frames if f[0] < box[0] and f[1] < box[1] and box[2] < f[2] and box[3] < f[3]]
        assert len(around) == (0 if node.startswith("MarkdownNote") else 1), node


# Loaded


def widget_values(content: dict[str, Any]) -> dict[str, Any]:
    return {str(node["id"]): node.get("widgets_values") or [] for node in content["nodes"]}


@pytest.mark.parametrize("name", NAMES)
def test_it_loads_without_a_complaint(front: FrontEnd, name: str, screenshots: Path, request: pytest.FixtureRequest) -> None:
    content = workflow(name)
    front.complaints.clear()
    front.load(content, name)
    front.page.wait_for_timeout(2000)  # for what the front end finds out after loading
    notices = front.notices()
    front.dismiss()
    front.fit()
    front.page.screenshot(path=screenshots / f"{request.node.name}.png")
    assert front.unknown_nodes() == []
    assert front.complaints == []
    missing = {value for _, _, value in front.missing_choices()}
    assert missing <= NOT_THERE
    if not missing:
        assert notices == []
    assert widget_values(front.saved()[0]) == widget_values(content)


def test_a_node_that_nobody_has_is_noticed(front: FrontEnd) -> None:
    """That the test above can fail."""
    content = workflow("cad_sandbox_erase_before_after")
    content["nodes"][0]["type"] = "CADNoSuchNode"
    front.load(content, "broken")
    front.page.wait_for_timeout(2000)
    assert front.unknown_nodes() == ["CADNoSuchNode"]
    assert any("CADNoSuchNode" in notice for notice in front.notices())
    front.dismiss()


@pytest.mark.parametrize("twin", TWINS, ids=lambda file: file.stem)
def test_the_front_end_sends_what_the_twin_has(front: FrontEnd, twin: Path) -> None:
    front.load(workflow(twin.stem), twin.stem)
    sent = front.saved()[1]
    for node in sent.values():
        if node["class_type"] == "PreviewAny":
            node["inputs"].pop("preview", None)  # the text that it shows, which older front ends send along
    assert sent == json.loads(twin.read_text(encoding="utf-8"))


# Run


def shapes(server: Server, result: Result, prompt: dict[str, Any]) -> dict[str, list[str]]:
    """The shapes that the judge sees in the pictures of each Save Image node, by the name of the files."""
    judge, seen = Judge.load(), {}
    for key, node in prompt.items():
        if node["class_type"] == "SaveImage":
            pictures = [picture.resize((PICTURE_SIZE, PICTURE_SIZE), Image.Resampling.NEAREST) for picture in server.images(result, key)]
            verdicts = judge.look(as_tensor(pictures))
            seen[node["inputs"]["filename_prefix"]] = [verdict.scene.shape for verdict in verdicts]
    return seen


def run(server: Server, front: FrontEnd, name: str) -> tuple[Result, dict[str, Any]]:
    """Run what the front end sends for a workflow, on the sandbox; all its pictures are there afterwards."""
    front.load(workflow(name), name)
    prompt = on_the_sandbox(front.prompt())
    result = server.run(prompt, timeout=1800).check()
    assert len(server.images(result)) == PAINTED[name]
    return result, prompt


@pytest.fixture(scope="module")
def page(browser: Browser, prepared: Server) -> Iterator[FrontEnd]:
    with front_end(browser, prepared.url, size=SCREEN) as opened:
        yield opened


@pytest.mark.slow
def test_erase_before_after_with_the_run_button(prepared: Server, page: FrontEnd, screenshots: Path) -> None:
    page.load(workflow("cad_sandbox_erase_before_after"))
    page.complaints.clear()
    ended = page.run(1_800_000)
    assert ended.how == "execution_success", ended
    page.fit()
    page.page.screenshot(path=screenshots / "erase_before_after_done.png")
    assert page.complaints == []
    assert page.notices() == []
    # What it leaves is in the server's cache, so that this computes nothing again.
    result, prompt = run(prepared, page, "cad_sandbox_erase_before_after")
    seen = shapes(prepared, result, prompt)
    assert seen["CAD/star before"].count("star") >= 8
    assert seen["CAD/star after"].count("star") <= 1
    assert seen["CAD/ring before"].count("ring") >= 8
    assert seen["CAD/ring after"].count("ring") >= 8


@pytest.mark.slow
def test_several_concepts(prepared: Server, page: FrontEnd) -> None:
    seen = shapes(prepared, *run(prepared, page, "cad_several_concepts"))
    for concept in ("a star", "a heart"):
        word = concept.split()[-1]
        assert seen[f"CAD/{concept} before"].count(word) >= 8
        assert seen[f"CAD/{concept} after"].count(word) <= 2
    assert seen["CAD/a blue arrow in dotted style after"].count("arrow") >= 7
    assert {file.name for file in (prepared.models / "cad_edits").iterdir()} >= {"sandbox-star.safetensors", "sandbox-heart.safetensors"}


@pytest.mark.slow
def test_amplify(prepared: Server, page: FrontEnd) -> None:
    seen = shapes(prepared, *run(prepared, page, "cad_amplify_from_images"))
    assert seen["CAD/a crescent after"].count("crescent") >= 6 > seen["CAD/a crescent before"].count("crescent")
    assert seen["CAD/a heart after"].count("heart") >= 8


def test_amplify_from_pictures_of_ones_own(prepared: Server, page: FrontEnd) -> None:
    """What its note says: switch the branch on, and connect it."""
    page.load(workflow("cad_amplify_from_images"))
    page.page.evaluate(
        """() => {
            const BYPASSED = 4, ALWAYS = 0;
            for (const node of app.graph.nodes) if (node.mode === BYPASSED) node.mode = ALWAYS;
            const find = (key, value) => app.graph.nodes.find(node => node[key] === value);
            const attribute = find("type", "CADAttribute");
            find("title", "VAE Encode: connect to images").connect(0, attribute, attribute.findInputSlot("images"));
        }"""
    )
    prompt = page.prompt()
    (images,) = [node["inputs"]["images"] for node in prompt.values() if node["class_type"] == "CADAttribute"]
    assert prompt[prompt[images[0]]["inputs"]["pixels"][0]]["class_type"] == "ImageScale"
    prepared.run(prompt).check()


def differ(server: Server, result: Result, prompt: dict[str, Any]) -> bool:
    """Whether no two Save Image nodes have the same pictures."""
    saved = [key for key, node in prompt.items() if node["class_type"] == "SaveImage"]
    pictures = [b"".join(picture.tobytes() for picture in server.images(result, key)) for key in saved]
    return len(set(pictures)) == len(pictures)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cad_erase_artist_style_sd15", "cad_erase_object_sdxl"])
def test_erase_on_the_sandbox_in_place_of_a_checkpoint(prepared: Server, page: FrontEnd, name: str) -> None:
    assert differ(prepared, *run(prepared, page, name))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cad_apply_shared_edit", "cad_combine_with_lora"])
def test_the_edit_that_another_workflow_saved(prepared: Server, page: FrontEnd, name: str) -> None:
    run(prepared, page, EDIT_MAKER)
    save_lora(prepared.models / "loras" / LORA)
    assert differ(prepared, *run(prepared, page, name))
    assert "lora key not loaded" not in prepared.log()


@pytest.mark.slow
def test_safety_filter(prepared: Server, page: FrontEnd) -> None:
    skip_without_nudenet()
    run(prepared, page, "cad_safety_filter")


@pytest.mark.slow
def test_audit(prepared: Server, page: FrontEnd) -> None:
    result, prompt = run(prepared, page, "cad_sandbox_audit")
    (node,) = [key for key, node in prompt.items() if node["class_type"] == "CADAudit"]
    (told,) = result.outputs[node]["cad_audit"]
    report = json.loads((prepared.output / told["page"]).with_name("results.json").read_text(encoding="utf-8"))
    (verdict,) = report["verdicts"].values()
    assert verdict["verdict"] == "suppressed"
    assert any("gradient" in attempt for attempt in verdict["brought_back_by"])
    assert len(report["attempts"]) == 4


@pytest.mark.slow
def test_the_script_in_the_documentation(prepared: Server) -> None:
    documentation = (PACK / "docs" / "workflows.md").read_text(encoding="utf-8")
    script = documentation.split("```python\n")[1].split("```")[0].replace("http://127.0.0.1:8188", prepared.url)
    done = subprocess.run([sys.executable, "-c", script], cwd=PACK, capture_output=True, text=True, check=True, timeout=60)
    prompt_id = done.stdout.strip()
    while prompt_id not in (history := prepared.get(f"/history/{prompt_id}")):
        time.sleep(0.5)
    assert history[prompt_id]["status"]["status_str"] == "success"


# Found by people


def test_people_find_them_in_the_template_browser(page: FrontEnd, screenshots: Path) -> None:
    page.page.evaluate("() => app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    dialog = page.page.get_by_role("dialog")
    dialog.get_by_text("ComfyUI-CAD", exact=True).first.click()
    card = dialog.get_by_text("cad_sandbox_erase_before_after").first
    card.wait_for()
    # Only our thumbnails have this size.
    page.page.wait_for_function(f"() => [...document.images].filter(image => image.naturalWidth === 512).length >= {len(NAMES)}")
    page.page.screenshot(path=screenshots / "template_browser.png")
    card.click()
    page.page.wait_for_function("() => app.graph.nodes.some(node => node.type === 'CADErase')")
