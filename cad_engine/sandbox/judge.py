"""The judge: a small classifier that reads shape, colour and style off a 64 x 64 picture."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from .world import COLOURS, SHAPES, STYLES, Scene

JUDGE_FILE = Path(__file__).with_name("judge.safetensors")


class JudgeNet(nn.Module):
    """Pictures [B, 3, 64, 64] in [0, 1] -> logits of shape [B, 10], colour [B, 6] and style [B, 6]."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(8, after), nn.SiLU()]
            layers += [nn.Conv2d(after, after, 3, padding=1, groups=8), nn.SiLU()]
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(128 * 16, 128), nn.SiLU())
        self.heads = nn.ModuleList(nn.Linear(128, len(labels)) for labels in (SHAPES, COLOURS, STYLES))

    def forward(self, pictures: Tensor) -> list[Tensor]:
        features = self.features(pictures * 2 - 1)
        return [head(features) for head in self.heads]


@dataclass(frozen=True)
class Verdict:
    """What the judge sees in one picture."""

    scene: Scene
    confidence: float  # the lowest of the three labels' probabilities

    def shows(self, concept: str) -> bool:
        """Whether `concept` (a shape, colour or style) is among the three labels."""
        return concept in (self.scene.shape, self.scene.colour, self.scene.style)


class Judge:
    """The trained classifier, ready to look at pictures."""

    def __init__(self, net: JudgeNet) -> None:
        self.net = net.eval()

    @classmethod
    def load(cls, path: Path = JUDGE_FILE) -> Judge:
        """The judge that is shipped beside this file."""
        net = JudgeNet()
        net.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
        return cls(net)

    @torch.no_grad()
    def look(self, pictures: Tensor) -> list[Verdict]:
        """Verdicts on `pictures` [B, 3, 64, 64] in [0, 1]."""
        chances = [logits.softmax(dim=-1) for logits in self.net(pictures.float())]
        confidence = torch.stack([chance.amax(dim=-1) for chance in chances]).amin(dim=0)
        labels = [chance.argmax(dim=-1).tolist() for chance in chances]
        return [
            Verdict(Scene(SHAPES[shape], COLOURS[colour], STYLES[style]), float(sure))
            for shape, colour, style, sure in zip(*labels, confidence, strict=True)
        ]
