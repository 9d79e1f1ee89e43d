"""The demo: attribute a concept of the sandbox, edit the model, paint and judge before and after, write the results."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..attribution import Attribution
from ..checkpoints.denoiser import DiffusersDenoiser
from ..checkpoints.load import load_model
from ..concept import attribute_concept
from ..concept_settings import ConceptSettings
from ..edit import Edit, applied
from ..erasure import edit_from_attribution, layer_shapes, random_control
from ..errors import CadError
from ..method import ROUNDS
from ..objective import Kind
from ..ordinary_prompts import ordinary_prompts
from ..progress import Progress, silent
from ..selection import RULES, Rule, check_ratio
from ..variations import varied
from ..vocabulary import Vocabulary
from .captions import KINDS, concept_prompts, kind_of, wording
from .demo_results import write_results
from .evaluation import COMMON_SHAPES, Painted, other_cases, paint, target_cases
from .judge import Judge
from .world import COLOURS, RARE_SHAPE, STYLES, Scene, render

Method = Literal["rounds", "paper"]
METHODS: tuple[Method, ...] = get_args(Method)
CONTEXTS = 12
COMPONENTS_OF_ROUNDS = ("cross_attention_kv",)
DEFAULT_RATIO = {"erase": 0.03, "amplify": 0.02}
"""For the paper's method: what shows an effect on a model of this size, whose rows have 64 to 512 inputs; 0.1 % of them is
less than one."""
DEFAULT_COMPONENTS = {"erase": ("ff", "attention"), "amplify": ("ff",)}
"""For the paper's method, which takes "ff" alone; to erase on the sandbox, ff and attention together cost the other pictures less
(docs/sandbox.md)."""
DEFAULT_RULE: dict[str, Rule] = {"erase": "row", "amplify": "row_min1"}
EVALUATION_SEED = 50_000  # far from the seeds that attribution samples with


@dataclass(frozen=True)
class DemoSettings:
    """What to show; see `cad demo --help`."""

    concept: str = "star"
    objective: Kind = "erase"
    method: Method | None = None
    ratio: float | None = None
    rule: Rule | None = None
    components: tuple[str, ...] | None = None
    pictures: int = 36
    seed: int = 0

    def check(self) -> None:
        """Raise CadError for anything the sandbox cannot do."""
        try:
            kind_of(self.concept)
        except ValueError as error:
            raise CadError(str(error)) from error
        if self.objective not in ("erase", "amplify"):
            raise CadError(f"--objective must be erase or amplify, got {self.objective!r}")
        if self.method is not None and self.method not in METHODS:
            raise CadError(f"--method must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method == "rounds" and self.objective == "amplify":
            raise CadError("--method rounds is for --objective erase; amplifying has the paper's method only")
        if self.ratio is not None:
            check_ratio(self.ratio)
        if self.rule is not None and self.rule not in RULES:
            raise CadError(f"--select must be one of {', '.join(RULES)}, got {self.rule!r}")
        if not 0 <= self.seed < 2**31:
            raise CadError(f"--seed must be between 0 and 2^31 - 1, got {self.seed}")
        if self.pictures < 1:
            raise CadError(f"--pictures must be at least 1, got {self.pictures}")

    @property
    def in_rounds(self) -> bool:
        """Whether the edit is found in rounds, which is the default to erase."""
        return self.objective == "erase" and self.method != "paper"


def concept_images(concept: str, count: int, seed: int) -> Tensor:
    """Drawn pictures [count, 3, 64, 64] of `concept`, everything else varied: the images that amplifying learns from."""
    rng = np.random.default_rng(seed)
    kind = kind_of(concept)
    drawn = []
    for _ in range(count):
        parts = {"shape": str(rng.choice(COMMON_SHAPES)), "colour": str(rng.choice(COLOURS)), "style": str(rng.choice(STYLES))}
        drawn.append(render(Scene(**{**parts, kind: concept}), rng))
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2)


def demo_attribution(denoiser: DiffusersDenoiser, settings: DemoSettings, progress: Progress = silent) -> Attribution:
    """Attribution of the demo's concept against its matched base prompt: with the edit that rounds find, or by the paper's rule alone."""
    if settings.in_rounds:
        return attribute_concept(denoiser, rounds_settings(denoiser, settings), progress=progress)
    prompts = concept_prompts(settings.concept)
    made = ConceptSettings(
        concept=prompts.sample,
        base=prompts.base,
        objective=settings.objective,
        components=DEFAULT_COMPONENTS[settings.objective] if settings.components is None else settings.components,
        trajectories=20,
        batch=20,
        seed=settings.seed,
    )
    latents = None
    if settings.objective == "amplify":
        latents = denoiser.encode(concept_images(settings.concept, 20, settings.seed))
    return attribute_concept(denoiser, made, latents, progress)


def rounds_settings(denoiser: DiffusersDenoiser, settings: DemoSettings) -> ConceptSettings:
    """Erasing in rounds, in sentences with other words of the sandbox, keeping its ordinary prompts."""
    others = {kind: [word for word in words if word not in (settings.concept, RARE_SHAPE)] for kind, words in KINDS.items()}
    words = wording(settings.concept, others, CONTEXTS)
    told = ConceptSettings(
        concept=words.concept,
        base=words.base,
        keep=ordinary_prompts("sandbox", words.concept, words.base),
        rounds=ROUNDS,
        contexts=words.contexts,
        components=COMPONENTS_OF_ROUNDS if settings.components is None else settings.components,
        batch=20,
        seed=settings.seed,
    )
    return varied(told, Vocabulary.of(denoiser.pipeline.tokenizer, denoiser.pipeline.text_encoder))


def run_demo(settings: DemoSettings, out: Path, progress: Progress = silent) -> dict[str, Any]:
    """Do everything, write report.html, grid.png, attribution.safetensors, edit.safetensors and results.json into `out`.

    Returns what results.json holds. Raises CadError for settings or a folder that cannot be used.
    """
    settings.check()
    _make_folder(out)
    began = time.monotonic()
    denoiser, judge = load_model("sandbox"), Judge.load()
    attribution = demo_attribution(denoiser, settings, progress)
    ratio, rule = settings.ratio, settings.rule
    if not settings.in_rounds:
        ratio = DEFAULT_RATIO[settings.objective] if ratio is None else ratio
    rule = rule or ("global" if settings.in_rounds else DEFAULT_RULE[settings.objective])
    edit = edit_from_attribution(attribution, ratio, rule)
    ratio = len(edit) / attribution.weights_total if ratio is None else ratio
    attributed = time.monotonic()

    weights = {name: module.weight for name, module in denoiser.layers.items()}
    cases = (
        target_cases(settings.concept, settings.pictures, EVALUATION_SEED),
        other_cases(settings.concept, settings.pictures + settings.pictures // 2, EVALUATION_SEED),
    )
    conditions = {"before": Edit({}), "after": edit, "random_weights": random_control(edit, layer_shapes(attribution), settings.seed)}
    painted: dict[str, tuple[Painted, Painted]] = {}
    for name, condition in conditions.items():

        def staged(_: str, done: int, total: int, name: str = name) -> None:
            progress(f"{name} pictures".replace("_", " "), done, total)

        with applied(condition, weights):
            both = paint(denoiser, judge, cases[0] + cases[1], staged)
        count = len(cases[0])
        painted[name] = (
            Painted(cases[0], both.pictures[:count], both.verdicts[:count]),
            Painted(cases[1], both.pictures[count:], both.verdicts[count:]),
        )
    results: dict[str, Any] = {
        "concept": settings.concept,
        "objective": settings.objective,
        "method": edit.info["method"],
        "components": attribution.info["components"],
        "weights_changed": len(edit),
        "weights_total": attribution.weights_total,
        "ratio": ratio,
        "selection": rule,
        "seed": settings.seed,
        "seconds": round(time.monotonic() - began, 1),
        "seconds_attribution": round(attributed - began, 1),
        **{
            name: {"target": round(target.showing(settings.concept), 4), "others": round(others.accuracy, 4)}
            for name, (target, others) in painted.items()
        },
        "pictures": {"target": len(cases[0]), "others": len(cases[1])},
    }
    write_results(out, attribution, edit, painted, results)
    return results


def _make_folder(out: Path) -> None:
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CadError(f"cannot make the folder {out}: {error.strerror}; choose another place with --out") from error
