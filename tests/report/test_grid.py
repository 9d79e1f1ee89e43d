from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from cad_engine.report.grid import GridRow, before_after_grid
from cad_engine.report.text import compact, percent, shortened


def pictures(count: int, height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def find(image: Image.Image, colour: tuple[int, int, int]) -> tuple[int, int, int, int]:
    """Bounding box (left, top, width, height) of the pixels of exactly `colour`."""
    rows, columns = np.nonzero((np.asarray(image) == colour).all(axis=-1))
    return int(columns.min()), int(rows.min()), int(np.ptp(columns)) + 1, int(np.ptp(rows)) + 1


def test_small_pictures_are_enlarged_pixel_by_pixel_before_above_after() -> None:
    before, after = pictures(3), pictures(3, seed=1)
    image = np.asarray(before_after_grid([GridRow("a red star", before, after)]))

    def place(picture: torch.Tensor) -> tuple[int, int]:
        large = (picture * 255).round().byte().permute(1, 2, 0).numpy().repeat(2, axis=0).repeat(2, axis=1)
        for y, x in zip(*np.nonzero((image == large[0, 0]).all(axis=-1)), strict=True):
            if np.array_equal(image[y : y + 128, x : x + 128], large):
                return int(x), int(y)
        raise AssertionError("the picture is not in the grid")

    above, below = [place(picture) for picture in before], [place(picture) for picture in after]
    assert [x for x, _ in above] == [x for x, _ in below] == sorted({x for x, _ in above})
    assert {y for _, y in above} != {y for _, y in below}
    assert above[0][1] + 128 < below[0][1]


def test_verdicts_are_marked_and_explained() -> None:
    row = GridRow("a red star", pictures(2), pictures(2), [True, True], [False, True])
    marked, plain = before_after_grid([row]), before_after_grid([GridRow(row.caption, row.before, row.after)])
    assert marked.height > plain.height
    tick, cross = (0x21, 0x66, 0xAC), (0xD9, 0x71, 0x0B)
    colours = {colour for _, colour in marked.getcolors(1 << 24) or []}
    assert {tick, cross} <= colours
    *_, width, _ = find(before_after_grid([GridRow("x", row.before * 0, row.after * 0, None, [False, False])]), cross)
    assert width > 128  # a cross on each of two pictures


@pytest.mark.parametrize(("height", "width", "cell"), [(512, 512, (256, 256)), (512, 768, (256, 171)), (100, 80, (80, 100))])
def test_large_pictures_are_reduced(height: int, width: int, cell: tuple[int, int]) -> None:
    image = before_after_grid([GridRow("", torch.zeros(1, 3, height, width), torch.ones(1, 3, height, width))])
    assert find(image, (0, 0, 0))[2:] == cell


def test_rows_of_different_lengths_sizes_and_types() -> None:
    rows = [
        GridRow("half", pictures(2).half(), pictures(2).half()),
        GridRow("out of range", pictures(4, 32, 48) * 9 - 4, torch.full((4, 3, 32, 48), torch.nan)),
        GridRow("一颗红星 · 🌟 · " + "a very long prompt, " * 100, pictures(1), pictures(1)),
        GridRow("x" * 10_000, pictures(1), pictures(1)),
        GridRow("\ud800\n\x00<b>", pictures(1), pictures(1)),
    ]
    image = before_after_grid(rows, columns=[f"seed {n}" for n in range(4)])
    assert image.mode == "RGB"
    assert image.width < 800
    background = np.asarray(image)[:, -20:]
    assert (background == 255).all()  # nothing runs over the margin


@pytest.mark.parametrize(
    "row",
    [
        GridRow("", pictures(2), pictures(3)),
        GridRow("", pictures(0), pictures(0)),
        GridRow("", pictures(2)[0], pictures(2)[0]),
        GridRow("", torch.rand(1, 4, 8, 8), torch.rand(1, 4, 8, 8)),
        GridRow("", pictures(2), pictures(2), [True]),
    ],
)
def test_pictures_that_do_not_match_are_refused(row: GridRow) -> None:
    with pytest.raises(ValueError, match="pictures"):
        before_after_grid([row])


def test_no_rows_or_wrong_columns_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one row"):
        before_after_grid([])
    with pytest.raises(ValueError, match="1 column headings for 2"):
        before_after_grid([GridRow("", pictures(2), pictures(2))], columns=["seed 0"])


def test_text_helpers() -> None:
    assert shortened("a  red\n\tstar ", 20) == "a red star"
    assert shortened("abcdefghij" * 1000, 11) == "abcde…fghij"
    assert len(shortened("wörd " * 5000, 100)) <= 100
    assert shortened("\x00\u202e\ud800", 9) == "\ufffd" * 3
    assert [compact(n) for n in (0, 999, 1000, 9949, 9950, 34_400, 5_600_000, 2_000_000_000)] == [
        *("0", "999", "1.0k", "9.9k", "10k", "34k", "5.6M", "2.0G")
    ]
    assert [percent(r) for r in (0.0005, 0.01, 1)] == ["0.05\u00a0%", "1\u00a0%", "100\u00a0%"]
