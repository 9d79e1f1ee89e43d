"""What an audit looks at, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from ..concept_settings import ConceptSettings
from ..cost import BACKWARD, evaluations
from ..errors import CadError
from ..method import METHODS, STEPS

STATE_PICTURES, ATTACK_BATCH = 16, 8
"""Pictures whose states the attack is to reproduce, and states in one of its iterations."""


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

    def evaluations(self) -> int:
        """Forwards of the UNet on one sample that the audit takes, a forward and backward counted as three."""
        asked = len(self.prompts) * self.count
        attacks = 2 if self.iterations else 0
        painted = 2 * asked + 2 * len(self.keep) * self.count + len(self.paraphrases) * self.count + asked * (attacks + self.amplify)
        total = painted * self.steps * (2 if self.cfg > 1 else 1)
        if self.iterations:
            total += STATE_PICTURES * self.steps * 3 + attacks * self.iterations * ATTACK_BATCH * BACKWARD
        if self.amplify:
            total += sum(evaluations(self.amplifying(), asked).values())
        return total
