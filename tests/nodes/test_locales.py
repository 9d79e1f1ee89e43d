"""The words of the nodes in every language: complete, nothing left over, and what ComfyUI serves."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from .node_defs import LANGUAGES, NODE_IDS, ROOT, locale, node_defs, options
from .server import Server

TRANSLATED = [language for language in LANGUAGES if language != "en"]
SCRIPT = {"zh": r"[\u4e00-\u9fff]", "ja": r"[\u3040-\u30ff\u4e00-\u9fff]"}
"""Signs of which every text in the language has some."""
KANA = r"[\u3040-\u30ff]"


@pytest.fixture(scope="module")
def nodes(server: Server) -> dict[str, Any]:
    """/object_info, which takes a while."""
    return server.object_info()


def texts(tree: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, str]]:
    """Every text of a locale file with its place in it, "CADErase.inputs.ratio.tooltip"."""
    for key, value in tree.items():
        place = f"{path}.{key}" if path else key
        if isinstance(value, Mapping):
            yield from texts(value, place)
        else:
            yield place, value


def mentioned(words: set[str], text: str) -> set[str]:
    """Those of `words` that stand in `text` by themselves."""
    return {word for word in words if re.search(rf"(?<![A-Za-z_]){re.escape(word)}(?![A-Za-z_])", text)}


def test_there_are_no_other_languages_and_files() -> None:
    found = {path.relative_to(ROOT / "locales").as_posix() for path in (ROOT / "locales").rglob("*") if path.is_file()}
    assert found == {f"{language}/{name}.json" for language in LANGUAGES for name in ("main", "nodeDefs")}


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_is_empty_or_means_something_to_the_front_end(language: str) -> None:
    """vue-i18n takes { } for placeholders, @ for links and | for plurals."""
    for name in ("main", "nodeDefs"):
        for place, text in texts(locale(language, name)):
            assert isinstance(text, str), place
            assert text.strip() == text != "", place
            assert not re.search(r"[{}@|]", text), place


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_and_none_is_left_over(language: str) -> None:
    english, translated = dict(texts(locale("en"))), dict(texts(locale(language)))
    assert translated.keys() == english.keys()
    for place, text in translated.items():
        if place.endswith((".tooltip", ".description", ".display_name")):
            assert re.search(SCRIPT[language], text), place
        if place.endswith((".tooltip", ".description")):
            assert bool(re.search(KANA, text)) == (language == "ja"), place
    assert locale(language, "main").keys() == locale("en", "main").keys()
    assert locale(language, "main")["nodeCategories"].keys() == locale("en", "main")["nodeCategories"].keys()


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_tell_the_same_numbers_and_file_names(language: str) -> None:
    """So that a changed default, limit or folder cannot be changed in English alone."""
    translated = dict(texts(locale(language)))
    for place, text in texts(locale("en")):
        for fact in re.findall(r"\d+(?:\.\d+)?|models/\w+|name-2", text):
            assert fact in translated[place], place


@pytest.mark.comfyui
def test_english_is_what_the_nodes_say(nodes: dict[str, Any]) -> None:
    """After a change of words: `python -m tests.nodes.node_defs URL` prints the file anew, and the other languages need it, too."""
    assert locale("en") == node_defs({node_id: nodes[node_id] for node_id in NODE_IDS})


@pytest.mark.comfyui
def test_options_of_drop_downs_are_named_as_they_are(nodes: dict[str, Any]) -> None:
    """They are values, which are the same in every language."""
    choices = {option for node_id in NODE_IDS for option in options(nodes[node_id]) if not option.startswith("(")}
    choices -= {"layer", "row", "paper", "rounds", "all", "boxes", "listed", "pass", "replace", "whole"}  # also ordinary words
    english = dict(texts(locale("en")))
    for language in TRANSLATED:
        for place, text in texts(locale(language)):
            assert "options" not in place
            if place.endswith(".tooltip"):
                assert mentioned(choices, text) >= mentioned(choices, english[place]), (language, place)


@pytest.mark.comfyui
def test_categories_have_names(nodes: dict[str, Any]) -> None:
    parts = {part for node_id in NODE_IDS for part in nodes[node_id]["category"].split("/")}
    for language in LANGUAGES:
        assert locale(language, "main")["nodeCategories"].keys() == parts - {"model"}  # which ComfyUI itself translates


@pytest.mark.comfyui
def test_comfyui_serves_them(server: Server) -> None:
    served = server.get("/i18n")
    for language in LANGUAGES:
        assert served[language]["nodeDefs"] == locale(language)
        assert served[language]["nodeCategories"] == locale(language, "main")["nodeCategories"]
