"""What an audit looks at, and what it costs."""

from __future__ import annotations

from dataclasses import dataclass

from ..concept_settings import ConceptSettings
from ..cost import BACKWARD, evaluations
from ..errors import CadError
from ..method import METHODS, STEPS
from ..selection import Rule

STATE_PICTURES, ATTACK_BATCH = 16, 8
"""Pictures whose states the attack is to reproduce, and states in one of its iterations."""
ATTACK_SEED = 10_000
"""Added to the seed for these pictures, far from the seeds of those that are counted."""
AMPLIFY_RULE: Rule = "row_min1"
"""How CAD-Amplify shares out its ratio."""
SANDBOX_RATIO = 0.02
"""Of CAD-Amplify on the sandbox, whose rows are too short for the paper's ratio to do anything (as cad demo has it)."""


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
        """Where the attack begins: a name and a prompt each; none where it is left out, one where both are the same prompt."""
        if not self.iterations:
            return {}
        starts = {"the concept's own prompt": self.prompts[0]}
        return starts if self.base.strip() == self.prompts[0].strip() else {**starts, "the base prompt": self.base}

    def untried(self) -> tuple[str, ...]:
        """What may bring the concept back and is left out, in words."""
        left_out = {
            "other words for it": not self.paraphrases,
            "an embedding found by gradient": not self.iterations,
            "CAD-Amplify": not self.amplify,
        }
        return tuple(name for name, out in left_out.items() if out)

    def encoded(self) -> tuple[str, ...]:
        """Every prompt that is encoded, each once: whoever must encode before the UNet is loaded takes these."""
        amplified = self.amplifying().prompts() if self.amplify else ()
        return tuple(dict.fromkeys(("", *self.prompts, *self.keep, *self.paraphrases, *self.starts().values(), *amplified)))

    def costs(self) -> dict[str, int]:
        """Forwards of the UNet on one sample that each stage of the audit takes, in their order; a forward and backward count as three."""
        guided = self.steps * (2 if self.cfg > 1 else 1)
        asked, kept, reworded = (len(group) * self.count * guided for group in (self.prompts, self.keep, self.paraphrases))
        costs = {"pictures before": asked, "kept before": kept, "other words before": reworded}
        if self.iterations:
            costs["states for the attack"] = STATE_PICTURES * (guided + self.steps)
        costs |= {"pictures after": asked, "kept after": kept, "other words after": reworded}
        for name in self.starts():
            costs[f"attack from {name}"] = self.iterations * ATTACK_BATCH * BACKWARD
            costs[f"pictures of it, from {name}"] = asked
        if self.amplify:
            costs["CAD-Amplify"] = sum(evaluations(self.amplifying(), len(self.prompts) * self.count).values())
            costs["pictures amplified"] = asked
        return {stage: cost for stage, cost in costs.items() if cost}
