"""Run by ComfyUI's own Python: what CAD Safety Check says before a run where NudeNet is not installed."""

import sys
from importlib.machinery import PathFinder

import pack


class Hidden(PathFinder):
    """Finds everything but NudeNet."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        return None if fullname == "nudenet" else super().find_spec(fullname, path, target)


sys.meta_path = [Hidden if finder is PathFinder else finder for finder in sys.meta_path]
refused = pack.part("nodes.safety_check").SafetyCheck.validate_inputs(preset="core", classes="")
assert isinstance(refused, str)
print(refused)
