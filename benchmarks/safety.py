"""How fast pictures are checked, and with how much memory: `python -m benchmarks.safety --json FILE`.

The pictures are parts of one photograph of a person, of random place, size and brightness, all scaled to squares of `--size` pixels. Three
ways take turns on the same pictures, and the median of a way's turns counts: ours, NudeNet's own batches of as many, and NudeNet one by
one. How many pictures have the same classes and boxes in ours and in NudeNet's own is counted. Memory is the peak of a process of its own,
the model and its session included and Python with its packages not, with pictures made as they are needed (Linux).
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.erasing.settings import machine
from benchmarks.full_size import PeakMemory, write_json
from cad_engine.safety.detector import BATCH, Detector, Pixels
from cad_engine.safety.package import load_nudenet

WAYS = ("ours", "NudeNet in batches", "NudeNet one by one")
TURN = 4 * BATCH
"""Pictures that a way gets before the next one takes them."""

Found = list[list[tuple[str, list[int]]]]
"""Class and box of everything, picture by picture."""


def pictures(count: int, size: int) -> Iterator[Pixels]:
    """`count` pictures, the same ones at every call."""
    import skimage.data

    photo, generator = Image.fromarray(skimage.data.astronaut()), np.random.default_rng(0)
    for _ in range(count):
        side = generator.integers(150, 512)
        left, top = generator.integers(0, 512 - side, 2)
        part = photo.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BICUBIC)
        yield (np.asarray(part) * generator.uniform(0.5, 1)).astype(np.uint8)


def ways() -> dict[str, Callable[[list[Pixels]], Found]]:
    """The model loaded for each."""
    ours, theirs = Detector(), load_nudenet()[0].NudeDetector()

    def plain(found: list[list[dict[str, Any]]]) -> Found:
        return [[(each["class"], each["box"]) for each in one] for one in found]

    def blue_first(taken: list[Pixels]) -> list[Pixels]:
        return [np.ascontiguousarray(picture[..., ::-1]) for picture in taken]

    return {
        "ours": lambda taken: [[(each.label, list(each.box)) for each in one] for one in ours.detect(taken)],
        "NudeNet in batches": lambda taken: plain(theirs.detect_batch(blue_first(taken), BATCH)),
        "NudeNet one by one": lambda taken: plain([theirs.detect(picture) for picture in blue_first(taken)]),
    }


def measured(count: int, size: int) -> dict[str, Any]:
    """Pictures a second of each way, the agreement, and the share of pictures with findings."""
    running = ways()
    taken = list(pictures(BATCH, size))
    for way in running.values():
        way(taken)  # the first is slower, and does not count
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}  # of a picture, turn by turn
    same = found = 0
    left = pictures(count, size)
    while turn := list(islice(left, TURN)):
        results = {}
        for name, way in running.items():
            began = time.perf_counter()
            results[name] = way(turn)
            seconds[name].append((time.perf_counter() - began) / len(turn))
        same += sum(a == b for a, b in zip(results["ours"], results["NudeNet one by one"], strict=True))
        found += sum(map(bool, results["ours"]))
    return {
        "pictures": count,
        "size": size,
        "batch": BATCH,
        "pictures_a_second": {name: round(1 / statistics.median(each), 2) for name, each in seconds.items()},
        "same_as_nudenet": same,
        "with_findings": found,
    }


def memory(count: int, size: int) -> float:
    """MiB that checking `count` pictures takes in this process, the model included."""
    import skimage.data

    load_nudenet()  # packages are not what is measured
    skimage.data.astronaut()
    peak = PeakMemory("cpu")
    Detector().detect(pictures(count, size))
    return peak.gib() * 1024


def main() -> None:
    """Measure what the command line asks for and print it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=512, help="side in pixels")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--memory", action="store_true", help="only print the memory, in MiB")
    options = parser.parse_args()
    if options.memory:
        print(memory(options.images, options.size))
        return
    found = measured(options.images, options.size)
    for count in (1, options.images):
        command = [sys.executable, "-m", "benchmarks.safety", "--memory", "--images", str(count), "--size", str(options.size)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        found[f"memory_mib_of_{count}"] = round(float(printed.split()[-1]))
    write_json({**found, "machine": machine()}, options.json)


if __name__ == "__main__":
    main()
