"""What the rounds of an attribution reached, in a line for people."""

from __future__ import annotations

from ..cad_engine.attribution import Attribution
from .describe import changed_count


def rounds_line(attribution: Attribution) -> str:
    """Weights changed, the objective before and after, and what it cost; of an attribution that was solved in rounds.

    The objective is J / J_0 of cad_engine.goals: (1 + push)^2 where nothing is erased, push^2 where the concept's prompt paints as
    its base does. What was kept is K / K_0: a squared change, in units of what a kept prompt itself changes.
    """
    count, done = changed_count(attribution), attribution.info["rounds_done"]
    if not count:
        return (
            "0 weights changed: no change was found that weakens the concept and spares what is kept; take another base prompt, "
            "other prompts to keep, or more components"
        )
    number = sum(1 for one in done if one["kappa"])
    first, last, (_, kept, told) = done[0]["J"][0], done[-1]["J"][1], done[-1]["K"]
    return (
        f"{count:,} weights changed in {number} round{'' if number == 1 else 's'}: objective {first:.2f} -> {last:.2f} "
        f"({attribution.info['push'] ** 2:.2f} is as good as the base prompt), kept predictions changed by {kept:.1%}, {told:.1%} predicted"
    ).replace("%", " %")
