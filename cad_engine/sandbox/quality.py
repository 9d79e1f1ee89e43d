"""How well the sandbox paints what it is asked for: `python -m cad_engine.sandbox.quality`.

Every combination of a common shape, a colour and a style is painted with seeds that no training or attribution uses, and judged;
so is the rare shape. The result is a Markdown table and, with --json, a file.
"""

from __future__ import annotations

import argparse
import json
from itertools import product
from pathlib import Path

from rich.progress import track

from ..checkpoints.load import load_model
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


def main() -> None:
    """Paint, judge and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1, help="pictures of each of the 360 combinations")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    denoiser, judge, cases = load_model("sandbox"), Judge.load(), quality_cases(options.repeats)
    chunks = [paint(denoiser, judge, cases[start : start + BATCH]) for start in track(range(0, len(cases), BATCH), "painting")]
    painted = Painted(cases, chunks[0].pictures, [verdict for chunk in chunks for verdict in chunk.verdicts])
    result = accuracies(painted)
    print(f"{len(cases)} pictures\n\n{markdown(result)}")
    if options.json is not None:
        options.json.write_text(json.dumps({"pictures": len(cases), **result}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
