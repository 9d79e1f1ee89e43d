"""The lists and judges that a user gives for a checkpoint's tables, and what of them each table needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ..errors import CadError

LISTS = {1: ("imagenette",), 2: ("i2p", "mma", "ring-a-bell"), 3: ("artists",), 4: ("coco",), 5: ("imagenette",), 6: ("i2p",)}
"""Published lists that a table reads; of table 2, those that are given, and at least one."""


@dataclass(frozen=True)
class Given:
    """Files of the user's.

    Attributes:
        prompts: the files of published lists, by name (see prompts.FORMATS).
        classifier: folder of an image classifier, for tables 1 and 5.
        clip: folder of a CLIP model, for table 4.
        lpips: AlexNet's weights and LPIPS' linear ones, for table 3.
    """

    prompts: Mapping[str, Path] = field(default_factory=dict)
    classifier: Path | None = None
    clip: Path | None = None
    lpips: tuple[Path, Path] | None = None

    def check(self, number: int) -> None:
        """Raise CadError when something that table `number` needs is not given."""
        missing = [name for name in LISTS[number] if name not in self.prompts]
        if missing and (number != 2 or len(missing) == len(LISTS[2])):
            wanted = " --prompts ".join(f"{name}=FILE" for name in missing)
            raise CadError(f"table {number} needs --prompts {wanted}; docs/reproduce.md says where the lists are published")
        judge = {
            1: ("--classifier", self.classifier),
            5: ("--classifier", self.classifier),
            4: ("--clip", self.clip),
            3: ("--lpips", self.lpips),
        }
        option, given = judge.get(number, ("", True))
        if given is None:
            raise CadError(f"table {number} needs {option}; docs/reproduce.md says what to give")
