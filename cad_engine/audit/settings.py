"""What an audit looks at, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from ..concept_settings import ConceptSettings
from ..cost import BACKWARD, evaluations
from ..errors import CadError
from ..method import METHODS, STEPS

STATE_PICTURES, ATTACK_BATCH = 16, 8
"""Pictures whose states the attack is to reproduce, and states in one of its iterations."""
OTHER_WORDS, STATES, AMPLIFY, AMPLIFIED = "other words", "states for the attack", "CAD-Amplify", "pictures amplified"
"""Stages of progress."""


@dataclass(frozen=True)
class AuditSettings:
    """One audit.

    Attributes:
        concept: the words that were erased.
        prompts: that ask for the concept.
        keep: prompts that must come out as before.
        paraphrases: that ask for the concept in other words.
        base: the prompt without the concept, from which the attack starts a second time; "" is the empty prompt.
        count: pictures of each prompt; picture i is of seed + i.
        size: (height, width) of the latents; None for the model's own.
        iterations: of the attack, from each start; 0 leaves it out.
        amplify: whether CAD-Amplify is tried on top of the edit.
        ratio: of the weights in each row that it sets to zero, at least one.
        checkpointing: less memory where gradients are made.
    """

    concept: str
    prompts: tuple[str, ...]
    keep: tuple[str, ...] = ()
    paraphrases: tuple[str, ...] = ()
    base: str = ""
    count: int = 4
    seed: int = 0
    steps: int = 20
    cfg: float = 7.5
    batch: int = 4
    size: tuple[int, int] | None = None
    iterations: int = 100
    amplify: bool = True
    ratio: float = 0.001
    checkpointing: bool = False

    def check(self) -> None:
        """Raise CadError for what makes no sense."""
        if not self.concept.strip():
            raise CadError("the concept is empty; give the words that the edit was made for")
        if not self.prompts:
            raise CadError("there is no prompt that asks for the concept; give at least one")
        for name, value, least in (("count", self.count, 1), ("steps", self.steps, 1), ("batch", self.batch, 1)):
            if value < least:
                raise CadError(f"{name} must be at least {least}, got {value}")
        if self.iterations < 0:
            raise CadError(f"iterations of the attack must be at least 0, got {self.iterations}")
        if not self.cfg >= 1:  # also refuses NaN
            raise CadError(f"cfg must be at least 1, got {self.cfg:g}")
        if not 0 < self.ratio <= 1:
            raise CadError(f"the ratio of CAD-Amplify must be in (0, 1], got {self.ratio:g}")

    def amplifying(self) -> ConceptSettings:
        """How CAD-Amplify attributes the concept."""
        return ConceptSettings(
            self.concept,
            objective="amplify",
            components=METHODS["paper"],
            steps=STEPS,
            batch=self.batch,
            size=self.size,
            seed=self.seed,
            checkpointing=self.checkpointing,
        )

    def starts(self) -> dict[str, str]:
        """The prompts that the attack begins at, by what they are; the base prompt only where it is another one."""
        starts = {"the concept's own prompt": self.prompts[0]}
        return starts if self.base.strip() == self.prompts[0].strip() else {**starts, "the base prompt": self.base}

    def texts(self) -> tuple[str, ...]:
        """Every prompt that may be encoded, each once: whoever must encode before the UNet is loaded takes these."""
        return tuple(dict.fromkeys((*self.prompts, *self.keep, *self.paraphrases, self.concept, self.base, "")))

    @property
    def untried(self) -> tuple[str, ...]:
        """The ways to bring the concept back that these settings leave out."""
        ways = {
            OTHER_WORDS: bool(self.paraphrases),
            "an embedding found by gradient": self.iterations > 0,
            AMPLIFY: self.amplify,
        }
        return tuple(name for name, tried in ways.items() if not tried)

    def stages(self) -> dict[str, int]:
        """Forwards of the UNet on one sample that each stage takes, in the order of the stages; a forward and backward is three."""
        picture = self.steps * (2 if self.cfg > 1 else 1)
        asked, kept = len(self.prompts) * self.count * picture, len(self.keep) * self.count * picture
        reworded = len(self.paraphrases) * self.count * picture
        costs = {"pictures before": asked, "kept before": kept, unedited(OTHER_WORDS): reworded}
        costs |= {"pictures after": asked, "kept after": kept, OTHER_WORDS: reworded}
        if self.iterations:
            costs[STATES] = STATE_PICTURES * (picture + self.steps)
            for name in self.starts():
                costs[search_stage(name)] = self.iterations * ATTACK_BATCH * BACKWARD
                costs[found_stage(name)] = asked
        if self.amplify:
            costs[AMPLIFY] = sum(evaluations(self.amplifying(), len(self.prompts) * self.count).values())
            costs[AMPLIFIED] = asked
        return {stage: cost for stage, cost in costs.items() if cost}

    def evaluations(self) -> int:
        """Forwards of the UNet on one sample that the whole audit takes."""
        return sum(self.stages().values())


def unedited(name: str) -> str:
    """What pictures of the unedited model are called, for the same words as the attempt `name`."""
    return f"{name}, without the edit"


def search_stage(start: str) -> str:
    """What searching for an embedding from `start` is called in progress."""
    return f"attack from {start}"


def found_stage(start: str) -> str:
    """What painting the found embedding is called in progress."""
    return f"pictures of it, from {start}"
