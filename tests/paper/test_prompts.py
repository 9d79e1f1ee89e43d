"""Published prompt lists: their columns, and what is said of files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from cad_engine.errors import CadError
from cad_engine.paper.plan import first_of_groups
from cad_engine.paper.prompts import Case, read_prompts

AS_PUBLISHED = {
    "imagenette": (
        ",case_number,prompt,evaluation_seed,class\n0,0,Image of church,987,church\n1,1,Image of tench,4889,tench\n",
        [Case("Image of church", 987, None, "church"), Case("Image of tench", 4889, None, "tench")],
    ),
    "i2p": (
        "prompt,categories,hard,inappropriate_percentage,nudity_percentage,q16_percentage,sd_safety_percentage,prompt_toxicity,lexica_url,"
        "sd_seed,sd_guidance_scale,sd_image_width,sd_image_height,sd_model\n"
        '"a portrait, by someone",shocking,0,35.0,0.0,1.0,0.0,0.1,https://example.org/1,2219455372,7.5,512,512,sd\n'
        "another,sexual,1,65.0,30.0,1.0,0.0,0.1,https://example.org/2,5,10,512,512,sd\n",
        [Case("a portrait, by someone", 2219455372, 7.5), Case("another", 5, 10.0)],
    ),
    "mma": ("target_prompt,adv_prompt\nplain,garbled one\nplain,garbled two\n", [Case("garbled one", 42), Case("garbled two", 43)]),
    "ring-a-bell": ("sensitive prompt,evaluation_seed\nodd words,7\n", [Case("odd words", 7)]),
    "artists": (
        ',case_number,prompt,evaluation_seed,artist\n0,0,"Flowers, in the style of Van Gogh\'s still lifes",3800,Van Gogh\n',
        [Case("Flowers, in the style of Van Gogh's still lifes", 3800, None, "Van Gogh")],
    ),
    "coco": (
        'image_id,source,prompt,evaluation_seed\n000000203564,coco-30k,A bicycle.,41337\n1,coco-30k,"A dog\nwatching tv\n",64297\n',
        [Case("A bicycle.", 41337), Case("A dog\nwatching tv\n", 64297)],
    ),
}


@pytest.mark.parametrize("kind", AS_PUBLISHED)
def test_lists_are_read_as_published(kind: str, tmp_path: Path) -> None:
    text, cases = AS_PUBLISHED[kind]
    path = tmp_path / "list.csv"
    for written in (text, "\ufeff" + text, text + "\n"):
        path.write_text(written, encoding="utf-8", newline="")
        assert read_prompts(path, kind) == cases


@pytest.mark.parametrize(
    ("kind", "text", "message"),
    [
        ("i2p", "caption,sd_seed\na,1\n", "has no column 'prompt' for the prompt of the list i2p; its columns are caption, sd_seed"),
        ("i2p", "prompt\na\n", "has no column 'evaluation_seed' or 'sd_seed' or 'seed' for the seed of the list i2p"),
        ("artists", "prompt,evaluation_seed\na,1\n", "has no column 'artist' for the group of the list artists"),
        ("i2p", "", "its columns are none"),
        ("i2p", "prompt,sd_seed\n", "has no prompt; get the list i2p again"),
        ("i2p", "prompt,sd_seed\na,-1\n", "line 2: the seed must be a whole number from 0, got '-1'"),
        ("i2p", "prompt,sd_seed\na\n", "line 2: the seed must be a whole number from 0"),
        ("i2p", "prompt,sd_seed,sd_guidance_scale\na,1,nan\n", "line 2: the guidance must be at least 1, got 'nan'"),
    ],
)
def test_what_is_missing_is_named(kind: str, text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CadError) as error:
        read_prompts(path, kind)
    assert message in str(error.value)
    assert str(path) in str(error.value)


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    with pytest.raises(CadError, match="there is no file"):
        read_prompts(tmp_path / "none.csv", "i2p")
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00prompt")
    with pytest.raises(CadError, match="is no text in UTF-8"):
        read_prompts(tmp_path / "binary.csv", "i2p")


def test_the_first_pictures_of_each_group_are_kept() -> None:
    cases = [Case("a", 1, None, "x"), Case("b", 2, None, "y"), Case("c", 3, None, "x"), Case("d", 4, None, "x")]
    assert [case.prompt for case in first_of_groups(cases, 2)] == ["a", "b", "c"]
    assert len(first_of_groups(cases, None)) == 4
