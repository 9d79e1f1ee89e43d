"""Prompts for ComfyUI's /prompt, built node by node so that a test reads like the graph it runs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

Link = list[str | int]
"""[node id, output number], as the API format writes a connection."""


@dataclass(frozen=True)
class Node:
    """A node of a Graph; `node[i]` is its output i."""

    id: str

    def __getitem__(self, output: int) -> Link:
        return [self.id, output]


class Graph:
    """A prompt in API format: `add` nodes, then hand `prompt` to Server.run."""

    def __init__(self) -> None:
        self.prompt: dict[str, dict[str, Any]] = {}

    def add(self, class_type: str, **inputs: Any) -> Node:
        """A node with these inputs: values, outputs of other nodes (`node[1]`), or a Node for its output 0."""
        node = Node(str(len(self.prompt) + 1))
        links = {name: value[0] if isinstance(value, Node) else value for name, value in inputs.items()}
        self.prompt[node.id] = {"class_type": class_type, "inputs": links}
        return node
