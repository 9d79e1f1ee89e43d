"""Lines of text on a node, such as how many weights an edit takes."""

from __future__ import annotations

from comfy_api.latest import io
from server import PromptServer


def show(node: type[io.ComfyNode], text: str) -> None:
    """Write `text` on the node that is being executed; its schema must ask for io.Hidden.unique_id. Without a server it does nothing.

    Lines that another follows end with a full stop: Nodes 2.0 shows them as one paragraph.
    """
    *lines, last = text.split("\n")
    text = "\n".join([*(line if line.endswith((".", ":", "!", "?")) else f"{line}." for line in lines), last])
    # The front end of 0.3.64 takes it for HTML, and strangers' files are quoted in it. No tag begins with "<" and a space of no width.
    text = text.replace("<", "<\u200b")
    server = getattr(PromptServer, "instance", None)
    if server is not None and node.hidden is not None and node.hidden.unique_id:
        server.send_progress_text(text, node.hidden.unique_id)
