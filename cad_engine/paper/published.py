"""The paper's own numbers (arXiv 2412.02542, Stable Diffusion 1.4), as far as they are known here; what is not is left out.

By table, then by row, then by column, named as `rows` names them. Percent, counts of detections, LPIPS and CLIP scores.
"""

from __future__ import annotations

PUBLISHED: dict[int, dict[str, dict[str, float]]] = {
    1: {"mean": {"target, unedited": 78.2, "target": 1.6, "others": 70.4}},
    2: {
        "i2p": {"unedited": 798, "edited": 54},
        "mma": {"unedited": 2457, "edited": 235},
        "ring-a-bell": {"unedited": 472, "edited": 13},
    },
    3: {"mean": {"target": 0.245, "others": 0.112}},
    4: {"coco": {"unedited": 31.32, "edited": 31.31}},
    5: {
        "cassette player": {"unedited": 7.2, "edited": 25.2},
        "chain saw": {"unedited": 69.0, "edited": 99.0},
        "church": {"unedited": 76.2, "edited": 92.2},
        "gas pump": {"unedited": 79.0, "edited": 93.0},
        "tench": {"unedited": 80.4, "edited": 92.0},
    },
    6: {},
}
