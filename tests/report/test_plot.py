from __future__ import annotations

import threading
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib import rcParams
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from PIL import Image

from cad_engine.errors import CadError
from cad_engine.layer_choice import matching
from cad_engine.report.pixels import figure_pixels
from cad_engine.report.plot import DPI, WIDTH, attribution_figure
from cad_engine.report.plot_style import FAINT, NEGATIVE, NEGATIVE_TAKEN, POSITIVE, POSITIVE_TAKEN, UNCHOSEN
from cad_engine.report.png import png_bytes, save_png
from cad_engine.selection import select
from tests.report.attributions import SD15, SDXL, ff_names, random_attribution

HOSTILE = [
    "<img src=x onerror=alert(1)>",
    "y" * 10_000,
    "$\\frac{",
    "a\nb\x00\x1b[31m",
    "\u202eright to left",
    "lone \ud800 surrogate",
    "",
]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG"
        return np.asarray(image.convert("RGB"))


def tick_labels(figure: Figure) -> list[Text]:
    return [label for label in figure.axes[1].get_yticklabels() if label.get_text()]


def assert_apart(figure: Figure) -> None:
    """No two layer labels overlap, and none reaches the strip beside them."""
    renderer = figure.canvas.get_renderer()  # type: ignore[attr-defined]
    boxes = [label.get_window_extent(renderer) for label in tick_labels(figure)]
    assert all(upper.y0 >= lower.y1 - 0.5 for upper, lower in pairwise(boxes))
    assert min(box.x0 for box in boxes) >= figure.axes[0].get_window_extent(renderer).x1


@pytest.mark.parametrize(
    ("names", "labels"),
    [(ff_names(SD15)[:1], 1), (ff_names(SD15)[:14], 14), (ff_names(SD15), 32), (ff_names(SDXL)[:110], 110), (ff_names(SDXL), 11)],
    ids=["1", "14", "32", "110", "140"],
)
def test_figures_of_small_and_large_models(names: list[str], labels: int, tmp_path: Path) -> None:
    figure = attribution_figure(random_attribution(names), ratio=0.05)
    path = tmp_path / "attribution.png"
    save_png(figure, path)
    image = pixels(path)
    assert image.shape[1] == round(WIDTH * DPI)
    assert image.shape[0] == pytest.approx(figure.get_figheight() * DPI, abs=1)
    assert image.shape[0] < 3000
    assert image.std() > 20  # not blank
    assert len(tick_labels(figure)) == labels
    assert_apart(figure)
    assert [entry.name for entry in tmp_path.iterdir()] == ["attribution.png"]


def test_hundreds_of_layers_stay_apart() -> None:
    parts = [f"attn{n}.{part}" for n in (1, 2) for part in ("to_q", "to_k", "to_v", "to_out.0")]
    names = [f"diffusion_model.input_blocks.{n}.0.emb_layers.1.weight" for n in range(1, 9)]
    names += [name.replace("ff.net.2", part) for name in ff_names(SDXL) for part in parts if "ff.net.2" in name]
    figure = attribution_figure(random_attribution([*names, *ff_names(SDXL)], shape=(2, 8)))
    assert figure.get_figheight() < 22
    assert_apart(figure)


@pytest.mark.parametrize("rule", ["row", "row_min1", "layer", "global"])
@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_threshold_of_a_ratio(rule: str, objective: str) -> None:
    attribution = random_attribution(ff_names(SD15)[:4], objective=objective)
    histogram = attribution_figure(attribution, ratio=0.05, rule=rule).axes[4]
    legend = histogram.get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert texts[2:] == [f"taken at 5\u00a0%, rule “{rule}”", "global threshold for 5\u00a0%"]
    threshold = histogram.lines[0].get_xdata()[0]  # type: ignore[index]
    sign = 1 if objective == "erase" else -1
    scores = np.sort(np.concatenate([layer.score.numpy() * sign for layer in attribution.layers.values()]))[::-1]
    assert threshold == pytest.approx(scores[int(0.05 * attribution.weights_total) - 1])


def bars(figure: Figure) -> dict[str, list[Rectangle]]:
    """Bars of the layers by colour, from the top."""
    result: dict[str, list[Rectangle]] = {}
    for bar in (patch for patch in figure.axes[1].patches if isinstance(patch, Rectangle)):
        result.setdefault(to_hex(bar.get_facecolor()), []).append(bar)
    return result


@pytest.mark.parametrize("rule", ["row", "global"])
@pytest.mark.parametrize("objective", ["erase", "amplify"])
def test_what_a_ratio_takes_of_each_layer(rule: str, objective: str) -> None:
    names = ff_names(SD15)[:6]
    attribution = random_attribution(names, objective=objective)
    figure = attribution_figure(attribution, ratio=0.05, rule=rule)
    dark = [bar.get_width() for bar in bars(figure)[POSITIVE_TAKEN if objective == "erase" else NEGATIVE_TAKEN]]
    chosen = select(attribution, 0.05, rule)
    layers = [attribution.layers[name] for name in names]
    expected = [float(layer.score[torch.isin(layer.index, chosen[name])].sum()) for name, layer in zip(names, layers, strict=True)]
    assert dark == pytest.approx(expected)
    assert figure.axes[1].get_xlabel() == "sum over the weights; dark: taken at 5\u00a0%"
    assert attribution_figure(attribution).axes[1].get_xlabel() == "sum over the weights"
    assert attribution_figure(attribution, ratio=0.001).axes[1].get_xlabel() == "sum over the weights; none is taken at 0.1\u00a0%"


def taken_texts(figure: Figure) -> list[str]:
    """The counts beside the layers, from the top."""
    return [text.get_text() for text in figure.axes[1].texts if text.get_text() != "taken" and text.get_fontsize() == 6]


@pytest.mark.parametrize("model", [SD15, SDXL])
def test_counts_stand_beside_the_layers_or_blocks(model: dict[str, int]) -> None:
    attribution = random_attribution(ff_names(model))
    counts = {name: len(index) for name, index in select(attribution, 0.05, "global").items()}
    blocks = [sum(counts[name] for name in ff_names({block: number})) for block, number in model.items()]
    expected = list(counts.values()) if model is SD15 else blocks
    assert taken_texts(attribution_figure(attribution, ratio=0.05, rule="global")) == list(map(str, expected))
    assert taken_texts(attribution_figure(attribution)) == []


def test_scores_per_harm_are_no_part_of_the_mass() -> None:
    attribution = random_attribution(ff_names(SD15)[:6])
    attribution.info["score"] = "attribution per harm"
    figure = attribution_figure(attribution, ratio=0.05)
    assert POSITIVE_TAKEN not in bars(figure)
    assert len(taken_texts(figure)) == 6
    assert figure.axes[1].get_xlabel() == "sum over the weights"
    assert figure.axes[4].get_xlabel() == "magnitude of the attribution per harm"


@pytest.mark.parametrize(("model", "named"), [(SD15, True), (SDXL, False)])
def test_layers_that_are_not_chosen_are_grey_and_not_counted(model: dict[str, int], named: bool) -> None:
    attribution = random_attribution(ff_names(model))
    chosen = matching(attribution.layers, ["mid*"])
    figure = attribution_figure(attribution, ratio=0.05, chosen=chosen)
    by_colour = bars(figure)
    assert len(by_colour[POSITIVE]) == len(by_colour[NEGATIVE]) == len(chosen)
    assert len(by_colour[UNCHOSEN]) == 2 * (len(attribution.layers) - len(chosen))
    dark = [label.get_text() for label in tick_labels(figure) if label.get_color() != FAINT]
    assert dark == (["mid 1 · block 0 · ff in", "mid 1 · block 0 · ff out"] if named else ["mid 1"])
    covers = [patch for patch in figure.axes[2].patches if isinstance(patch, Rectangle)]
    assert sum(cover.get_height() for cover in covers) == len(attribution.layers) - len(chosen)
    facts = [text.get_text() for text in figure.texts][-1]
    assert f"{len(chosen)} of {len(attribution.layers)} layers chosen" in facts
    only = random_attribution(ff_names(model))
    only.layers = {name: attribution.layers[name] for name in chosen}
    counts, expected = figure.axes[5], attribution_figure(only, ratio=0.05).axes[5]
    assert [text.get_text() for text in counts.texts] == [text.get_text() for text in expected.texts]
    assert_apart(figure)


def test_the_heading_says_what_was_attributed() -> None:
    attribution = random_attribution(ff_names(SD15)[:1], concept="van gogh")
    attribution.info |= {"base": "a painting", "family": "sd1", "keep": ["a photo", "monet"]}
    texts = [text.get_text() for text in attribution_figure(attribution).texts]
    assert texts == [
        "Attribution of “van gogh”",
        "to erase, against the base prompt “a painting”",
        "Stable Diffusion 1.x  ·  1 layer  ·  640 weights  ·  4 timesteps  ·  2 prompts kept",
    ]
    attribution.info |= {"base": " ", "family": "x" * 1000, "keep": []}
    assert attribution_figure(attribution).texts[1].get_text() == "to erase, against the empty prompt"
    attribution.info |= {"base": {"not": "text"}, "family": 3, "keep": 5}
    assert [text.get_text() for text in attribution_figure(attribution).texts[1:]] == [
        "to erase",
        "1 layer  ·  640 weights  ·  4 timesteps",
    ]


def test_a_ratio_takes_the_place_of_the_nearest_in_the_counts() -> None:
    counts = attribution_figure(random_attribution(ff_names(SD15)[:2]), ratio=0.03, rule="layer").axes[5]
    labels = [(label.get_text(), label.get_fontweight()) for label in counts.get_xticklabels()]
    assert labels == [("0.05\u00a0%", "normal"), ("0.1\u00a0%", "normal"), ("1\u00a0%", "normal"), ("3\u00a0%", "bold")]
    legend = counts.get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts() if text.get_fontweight() == "bold"] == ["layer"]


def test_the_pixels_are_those_of_the_png(tmp_path: Path) -> None:
    figure = attribution_figure(random_attribution(ff_names(SD15)[:3]))
    picture = figure_pixels(figure)
    assert picture.dtype == torch.float32
    save_png(figure, tmp_path / "a.png")
    assert np.array_equal((picture * 255).round().byte().numpy(), pixels(tmp_path / "a.png"))


def test_hostile_names_and_titles_are_only_text() -> None:
    attribution = random_attribution([*HOSTILE, *ff_names(SD15)[:2]], concept="$\\frac{\ud800" + "z" * 10_000)
    for title in (None, "$\\undefined{", "\x00\n"):
        figure = attribution_figure(attribution, title=title)
        assert len(png_bytes(figure)) > 10_000
        assert_apart(figure)
        assert all(len(text.get_text()) < 120 and "\n" not in text.get_text() for text in figure.findobj(Text))


@pytest.mark.parametrize(("scale", "steps"), [(0.0, 1), (1e-30, 50), (1e30, 3)])
def test_extreme_scores(scale: float, steps: int) -> None:
    assert len(png_bytes(attribution_figure(random_attribution(ff_names(SD15)[:3], scale=scale, steps=steps), ratio=0.05))) > 10_000


def test_a_ratio_that_is_not_kept_is_refused() -> None:
    attribution = random_attribution(ff_names(SD15)[:2], shape=(20, 1000), keep_ratio=0.01)
    with pytest.raises(CadError, match="keep ratio"):
        attribution_figure(attribution, ratio=0.5)


def test_the_same_attribution_makes_the_same_bytes_in_any_thread() -> None:
    settings = dict(rcParams)
    attribution = random_attribution(ff_names(SD15)[:3])
    results: list[bytes] = []
    threads = [threading.Thread(target=lambda: results.append(png_bytes(attribution_figure(attribution)))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 2
    assert results[0] == results[1]
    assert dict(rcParams) == settings


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(CadError, match="missing"):
        save_png(Image.new("RGB", (2, 2)), tmp_path / "missing" / "x.png")


def test_a_histogram_that_does_not_fit_the_scores_is_drawn() -> None:
    """Files are checked for sane values, not for whether their parts agree."""
    attribution = random_attribution(ff_names(SD15)[:2])
    for layer in attribution.layers.values():
        layer.histogram[:, 900] = 10_000
    assert len(png_bytes(attribution_figure(attribution, ratio=0.05, rule="global"))) > 10_000
