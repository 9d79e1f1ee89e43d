"""Lists of concepts: what a line means, and names of files that every system takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from cad_engine.concept_list import Listed, file_name, read_list
from cad_engine.errors import CadError


def written(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_a_line_is_a_concept_with_or_without_a_base_prompt(tmp_path: Path) -> None:
    text = "\ufeff# painters\r\nvan gogh\r\n\r\n  a red\tstar | a red shape  \r\n  # the empty prompt:\nmonet |\nC# logo"
    assert read_list(written(tmp_path / "list.txt", text), "a painter") == [
        Listed(2, "van gogh", "a painter"),
        Listed(4, "a red star", "a red shape"),
        Listed(6, "monet", ""),
        Listed(7, "C# logo", "a painter"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "list.txt has no concept"),
        ("# nothing\n\n", "list.txt has no concept"),
        ("a star\n | a shape", "line 2 has no concept: '| a shape'"),
        ("a | b | c", "line 1 has more than one |"),
        ("Star\n\nheart\nstar!", "lines 1 and 4: 'Star' and 'star!' would both be written to star.safetensors"),
        ("a star | a shape\na star | a dot", "lines 1 and 2: 'a star' and 'a star'"),
        ("caf\u00e9\ncafe\u0301", "lines 1 and 2"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(CadError) as raised:
        read_list(written(tmp_path / "list.txt", text), "")
    assert message in str(raised.value)


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(CadError, match="there is no file"):
        read_list(tmp_path / "list.txt", "")
    with pytest.raises(CadError, match="cannot read"):
        read_list(tmp_path, "")
    (tmp_path / "list.txt").write_bytes(b"caf\xe9")
    with pytest.raises(CadError, match="not text in UTF-8"):
        read_list(tmp_path / "list.txt", "")


@pytest.mark.parametrize(
    ("concept", "name"),
    [
        ("in the style of van gogh", "in_the_style_of_van_gogh"),
        ('a/b\\c:d*e?f"g<h>i|j', "a_b_c_d_e_f_g_h_i_j"),
        ("../../etc/passwd", "etc_passwd"),
        ("--out x", "out_x"),
        ("x. ", "x"),
        ("art-deco", "art-deco"),
        ("葛飾 北斎", "葛飾_北斎"),
        ("हिन्दी", "हिन्दी"),
        ("CON", "CON_"),
        ("com1", "com1_"),
    ],
)
def test_names_are_taken_by_every_system(concept: str, name: str, tmp_path: Path) -> None:
    assert file_name(concept) == f"{name}.safetensors"
    written(tmp_path / file_name(concept), "")
    assert [path.name for path in tmp_path.iterdir()] == [file_name(concept)]


@pytest.mark.parametrize("letter", ["a", "\u00e9", "葛", "\U00020000"])
def test_long_names_are_cut_and_stay_apart(letter: str, tmp_path: Path) -> None:
    names = [file_name(letter * 200 + end) for end in ("", " b", " c")]
    assert len(set(names)) == 3
    for name in names:
        # The longest name that a file has while it is written, see files.written_whole.
        written(tmp_path / f".{name[:80]}.12345678.part", "")


def test_a_concept_without_letters_has_a_name_of_its_own() -> None:
    names = {file_name(concept) for concept in ("!!!", "???", "***")}
    assert len(names) == 3
    assert all(len(name) == 8 + len(".safetensors") for name in names)
