"""A figure as a picture in a tensor."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor


def figure_pixels(figure: Figure) -> Tensor:
    """RGB in [0, 1], float32 [H, W, 3], of a figure that draws on a FigureCanvasAgg, on white."""
    canvas = cast(FigureCanvasAgg, figure.canvas)
    canvas.draw()
    return torch.from_numpy(np.asarray(canvas.buffer_rgba())[..., :3].astype(np.float32) / 255)
