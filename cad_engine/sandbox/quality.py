"""How well the sandbox paints what it is asked for: `python -m cad_engine.sandbox.quality`.

Every combination of a common shape, a colour and a style is painted with seeds that no training or attribution uses, and judged;
so is the rare shape. The result is a Markdown table and, with --json, a file.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

import torch
from rich.progress import track
from torch import Tensor

from ..checkpoints.load import load_model
from ..images import save_picture
from .captions import prompt
from .evaluation import BATCH, COMMON_SHAPES, Case, Painted, paint
from .judge import Judge
from .world import COLOURS, RARE_SHAPE, STYLES, Scene

FIRST_SEED = 1_000_000
PARTS = ("shape", "colour", "style")


def quality_cases(repeats: int) -> list[Case]:
    """Each combination of shape (the rare one included), colour and style, `repeats` times."""
    scenes = [Scene(*parts) for parts in product((*COMMON_SHAPES, RARE_SHAPE), COLOURS, STYLES)] * repeats
    return [Case(prompt(s.shape, s.colour, s.style), FIRST_SEED + i, s) for i, s in enumerate(scenes)]


def accuracies(painted: Painted) -> dict[str, dict[str, float]]:
    """Accuracy of each part overall and by value, over the common shapes; and of the rare shape."""
    pairs = [(case.scene, verdict.scene) for case, verdict in zip(painted.cases, painted.verdicts, strict=True)]
    common = [(asked, seen) for asked, seen in pairs if asked.shape != RARE_SHAPE]
    result: dict[str, dict[str, float]] = {}
    for part in PARTS:
        hits: dict[str, list[bool]] = {"overall": []}
        for asked, seen in common:
            hit = getattr(asked, part) == getattr(seen, part)
            hits["overall"].append(hit)
            hits.setdefault(getattr(asked, part), []).append(hit)
        result[part] = {value: sum(found) / len(found) for value, found in hits.items()}
    rare = [seen.shape == RARE_SHAPE for asked, seen in pairs if asked.shape == RARE_SHAPE]
    result["rare shape"] = {RARE_SHAPE: sum(rare) / len(rare)}
    result["everything right"] = {"overall": sum(asked == seen for asked, seen in common) / len(common)}
    return result


def markdown(result: dict[str, dict[str, float]]) -> str:
    """The table, one line a part: overall first, then by value."""
    lines = ["| | overall | by value |", "|---|---|---|"]
    for part, values in result.items():
        single = ", ".join(f"{value} {share:.2f}" for value, share in values.items() if value != "overall")
        overall = values.get("overall")
        lines.append(f"| {part} | {'' if overall is None else f'{overall:.3f}'} | {single} |")
    return "\n".join(lines)


def sheet(painted: Painted) -> Tensor:
    """One picture [3, H, W] of the first 360: a row for each shape, two pictures of each style, colours taking turns."""
    by_scene = {case.scene: picture for case, picture in zip(painted.cases, painted.pictures, strict=True)}
    rows = []
    for i, shape in enumerate((*COMMON_SHAPES, RARE_SHAPE)):
        scenes = [Scene(shape, COLOURS[(i + 2 * j + 3 * k) % len(COLOURS)], style) for j, style in enumerate(STYLES) for k in range(2)]
        rows.append(torch.cat([by_scene[scene] for scene in scenes], dim=2))
    return torch.cat(rows, dim=1)


def main() -> None:
    """Paint, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="pictures of each of the 360 combinations")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--sheet", type=Path, help="also write a PNG with two pictures of each shape and style")
    options = parser.parse_args()
    denoiser, judge, cases = load_model("sandbox"), Judge.load(), quality_cases(options.repeats)
    chunks = [paint(denoiser, judge, cases[start : start + BATCH]) for start in track(range(0, len(cases), BATCH), "painting")]
    pictures = torch.cat([chunk.pictures for chunk in chunks])
    painted = Painted(cases, pictures, [verdict for chunk in chunks for verdict in chunk.verdicts])
    result = accuracies(painted)
    print(f"{len(cases)} pictures\n\n{markdown(result)}")
    if options.sheet is not None:
        save_picture(options.sheet, sheet(painted))
    if options.json is not None:
        options.json.write_text(json.dumps({"pictures": len(cases), **result}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
