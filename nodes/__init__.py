"""The ComfyUI side: one file a node, plus the adapters between ComfyUI and the engine (denoiser.py, patch.py)."""

from comfy_api.latest import ComfyExtension, io

from .amplify import Amplify
from .apply_edit import ApplyEdit
from .attribute import Attribute
from .audit import Audit
from .erase import Erase
from .load_attribution import LoadAttribution
from .load_edit import LoadEdit
from .load_sandbox import LoadSandbox
from .safety_check import SafetyCheck
from .save_attribution import SaveAttribution
from .save_edit import SaveEdit
from .viewer import AttributionViewer


class CadExtension(ComfyExtension):
    """The pack, in the order of its use."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadSandbox,
            Attribute,
            AttributionViewer,
            Erase,
            Amplify,
            ApplyEdit,
            SaveAttribution,
            LoadAttribution,
            SaveEdit,
            LoadEdit,
            SafetyCheck,
            Audit,
        ]


async def comfy_entrypoint() -> CadExtension:
    return CadExtension()
