"""The help page of every node in every language: it is found by the front end, and says what the node has."""

from __future__ import annotations

import re
from typing import Any

import pytest
import requests

from .node_defs import LANGUAGES, NODE_IDS, ROOT, locale, options
from .server import Server

DOCS = ROOT / "web" / "docs"

each_page = pytest.mark.parametrize(("language", "node_id"), [(language, node_id) for language in LANGUAGES for node_id in NODE_IDS])


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    """/object_info, which takes a while."""
    return server.object_info()


def page(language: str, node_id: str) -> str:
    """The file; English is where the front end looks when a language has none of its own."""
    path = DOCS / f"{node_id}.md" if language == "en" else DOCS / node_id / f"{language}.md"
    return path.read_text(encoding="utf-8")


def fetched(server: Server, node: dict[str, Any], language: str) -> str:
    """The page as the front ends from 1.27 to 1.49 look for it: in the language, else the one for all."""
    pack = node["python_module"].split(".")[1]
    for address in (f"{node['name']}/{language}.md", f"{node['name']}.md"):
        answer = requests.get(f"{server.url}/extensions/{pack}/docs/{address}", timeout=60)
        if answer.ok and "text/html" not in answer.headers.get("Content-Type", ""):
            return answer.content.decode("utf-8").replace("\r\n", "\n")
    raise AssertionError(f"no help for {node['name']} in {language}")


def names(language: str, node_id: str) -> list[str]:
    """Of the inputs and outputs, as the node shows them in `language`."""
    words = locale(language)[node_id]
    return [entry["name"] for kind in ("inputs", "outputs") for entry in words[kind].values()]


def test_there_are_no_other_pages() -> None:
    found = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    translated = {f"{node_id}/{language}.md" for node_id in NODE_IDS for language in LANGUAGES if language != "en"}
    assert found == translated | {f"{node_id}.md" for node_id in NODE_IDS}


@each_page
def test_it_tells_of_every_input_and_output(language: str, node_id: str) -> None:
    text = page(language, node_id)
    assert text.startswith(f"# {locale(language)[node_id]['display_name']}\n")
    assert sorted(re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)) == sorted(names(language, node_id))
    for table in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        rows = table.splitlines()
        assert len({row.count("|") for row in rows}) == 1, rows[0]
        assert all(cell.strip() for row in rows[2:] for cell in row.split("|")[1:-1]), rows[0]
    assert "https://arxiv.org/abs/2412.02542" in text


@pytest.mark.comfyui
@each_page
def test_it_is_served_and_names_nothing_that_does_not_exist(server: Server, nodes: dict[str, Any], language: str, node_id: str) -> None:
    text = fetched(server, nodes[node_id], language)
    assert text == page(language, node_id)
    known = {option for other in NODE_IDS for option in options(nodes[other])}
    known |= {name for other in NODE_IDS for name in names(language, other)}
    assert set(re.findall(r"`([^`]+)`", text)) <= known


@pytest.mark.comfyui
def test_other_languages_get_english(server: Server, nodes: dict[str, Any]) -> None:
    assert fetched(server, nodes["CADErase"], "fr") == page("en", "CADErase")
