"""Other methods of erasing a concept, re-derived from their papers, as methods of benchmarks.erasing; and controls."""

from __future__ import annotations

from benchmarks.erasing.task import Method

from .concept_prune import ConceptPrune
from .esd import ESD
from .paper_cad import PaperCAD
from .random_weights import RandomWeights
from .rece import RECE
from .uce import UCE

METHODS: dict[str, Method] = {
    "uce": UCE(preserve=False),
    "uce + preserve": UCE(preserve=True),
    "rece": RECE(),
    "esd-x": ESD("x"),
    "esd-u": ESD("u"),
    "conceptprune": ConceptPrune(),
    "cad (paper)": PaperCAD(),
    "random weights": RandomWeights(PaperCAD()),
}
"""By the name in tables. "random weights" takes as many as "cad (paper)"."""
