from __future__ import annotations

from pathlib import Path

import pytest

from cad_engine.attribution_file import load_attribution, save_attribution
from cad_engine.edit_file import load_edit, save_edit
from cad_engine.erasure import edit_from_attribution
from cad_engine.errors import CadError
from cad_engine.layer_choice import choose, matching, parse_patterns
from cad_engine.selection import RULES, select
from tests.report.attributions import SD15, ff_names, random_attribution

NAMES = ff_names(SD15)
MIDDLE = [name for name in NAMES if "middle_block" in name]


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["*middle_block*"], MIDDLE),
        (["mid 1*"], MIDDLE),
        (["mid 1 · block 0 · ff in"], MIDDLE[:1]),
        ([MIDDLE[1]], MIDDLE[1:]),
        (["*ff.net.2*", "*.ff.net.0.proj.weight"], NAMES),
        (["out 11*", "in 1 *"], [*NAMES[:2], *NAMES[-2:]]),
        (["in ? · *ff out"], [name for name in NAMES if "input_blocks" in name and "net.2" in name]),
        ([], NAMES),
    ],
)
def test_patterns_match_names_and_labels(patterns: list[str], expected: list[str]) -> None:
    assert matching(NAMES, patterns) == expected


@pytest.mark.parametrize("pattern", ["*midle*", "IN 1*", "in 1", "[", "x" * 10_000, "\x00\x1b[31m", "*a*a*a*a*a*a*a*a*a*a*a*a*b*!"])
def test_a_pattern_without_a_match_is_named(pattern: str) -> None:
    with pytest.raises(CadError, match="matches none of the 32 layers") as caught:
        matching(NAMES, ["mid 1*", pattern])
    message = str(caught.value)
    assert len(message) < 400
    assert message.isprintable()


def test_patterns_are_lines() -> None:
    assert parse_patterns("\n mid 1* \r\n\n*ff out\n") == ["mid 1*", "*ff out"]
    assert parse_patterns(" \n\t") == []


def test_no_pattern_is_no_choice() -> None:
    attribution = random_attribution(NAMES)
    assert choose(attribution, []) is attribution


@pytest.mark.parametrize("rule", RULES)
def test_selections_of_a_choice_are_those_of_its_layers(rule: str, tmp_path: Path) -> None:
    whole = random_attribution(NAMES)
    chosen = choose(whole, ["mid 1*", "out 5*"])
    names = list(chosen.layers)
    assert len(names) == 4
    assert chosen.info["layers"] == names
    assert "layers" not in whole.info
    assert len(whole.layers) == 32
    expected = select(whole, 0.05, rule, layers=names)
    actual = select(chosen, 0.05, rule)
    assert actual.keys() == expected.keys()
    assert all(actual[name].equal(expected[name]) for name in expected)
    edit = edit_from_attribution(chosen, 0.05, rule)
    assert set(edit.layers) <= set(names)
    assert edit.info["layers"] == names
    # The choice survives in files, and can be narrowed.
    save_attribution(tmp_path / "a.safetensors", chosen)
    again = load_attribution(tmp_path / "a.safetensors")
    assert list(again.layers) == names
    assert choose(again, ["*ff out"]).info["layers"] == [names[1], names[3]]
    save_edit(tmp_path / "e.safetensors", edit)
    assert load_edit(tmp_path / "e.safetensors").info["layers"] == names
