from __future__ import annotations

import pytest
from matplotlib.font_manager import findfont, get_font

from cad_engine.report import fonts


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> str:
    """A font that matplotlib brings along, in the place of one that a machine may have."""
    monkeypatch.setattr(fonts, "_OTHERS", ("no such font", "STIXGeneral"))
    monkeypatch.setattr(fonts, "families", fonts.families.__wrapped__)
    return "STIXGeneral"


def test_a_script_that_the_usual_font_lacks_takes_another(fallback: str) -> None:
    assert fonts.families() == ["DejaVu Sans", fallback]
    usual, other = (get_font(findfont(family)).get_charmap() for family in ("DejaVu Sans", fallback))
    only_other = chr(min(other.keys() - usual.keys()))
    assert fonts.picture_font("abc", 12).path == findfont("DejaVu Sans")
    assert fonts.picture_font(only_other, 12).path == findfont(fallback)
    assert fonts.picture_font("\U0010fffd", 12).path == findfont("DejaVu Sans")  # which no font has


def test_width_grows_with_size() -> None:
    assert fonts.text_width("abc", 20) == pytest.approx(2 * fonts.text_width("abc", 10))
    assert fonts.text_width("", 10) == 0
