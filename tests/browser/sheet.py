"""A workflow as its author sees it: a prompt, and where its nodes stand, in titled groups with notes beside them.

The front end builds it, tells how large every node must be to show all of its widgets, and serialises it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.nodes.graph import Graph, Node

from .page import FrontEnd

GAP, PADDING, TITLE, GROUP_TITLE = 30, 20, 30, 50
"""Pixels: between nodes; around them in a group; a node's title bar, which lies above its position; a group's."""
COLUMN_GAP = 60
NOTE_FRAME = 30  # around the text of a note
NODES_2_TEXT = 1.3  # how much higher the same text is in the front end's other renderer, Nodes 2.0
WIDTH = 320
NOTE_COLOURS = {"color": "#432", "bgcolor": "#653"}  # ComfyUI's own templates have notes of this colour
KNOB_COLOURS = {"color": "#232", "bgcolor": "#353"}


@dataclass(frozen=True)
class Look:
    """How one node is shown.

    Attributes:
        title: None for the node's own.
        height: without the title bar; 0 is what its widgets need, or the text of a note,
        more: and so many pixels, for a text of several lines.
        room: pixels left free below it, into which it grows when it runs and shows a preview picture or a line of text.
        knob: whether it is one to play with, which gets a colour of its own.
        bypassed: whether it takes no part until the user switches it on.
        models: the files it needs, which the front end offers to download: {name, url, directory}.
    """

    title: str | None = None
    width: int = WIDTH
    height: int = 0
    more: int = 0
    room: int = 0
    knob: bool = False
    bypassed: bool = False
    models: tuple[Mapping[str, str], ...] = ()


@dataclass(frozen=True)
class Note:
    """A text in Markdown."""

    id: str
    text: str


@dataclass(frozen=True)
class Group:
    """Nodes below each other, in one or more columns, with a frame around them."""

    title: str
    columns: tuple[tuple[Node | Note, ...], ...]


@dataclass(frozen=True)
class Compared:
    """The Save Image nodes that show what a prompt paints before and after."""

    prompt: str
    before: Node
    after: Node


@dataclass
class Sheet:
    """A workflow to be drawn: add nodes and notes, then say where they stand, column by column from the left.

    `compared`, or else the Save Image node `shown`, is what the thumbnail shows.
    """

    name: str
    graph: Graph = field(default_factory=Graph)
    looks: dict[str, Look] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    columns: list[tuple[Group | Note, ...]] = field(default_factory=list)
    compared: list[Compared] = field(default_factory=list)
    shown: Node | None = None

    def node(self, class_type: str, look: Look | str | None = None, **inputs: Any) -> Node:
        """A node as Graph.add makes it; `look` may be its title alone."""
        node = self.graph.add(class_type, **inputs)
        self.looks[node.id] = look if isinstance(look, Look) else Look(look)
        return node

    def note(self, title: str, text: str, *, width: int = 400) -> Note:
        """A note that stands in a column or in a group; the lines of a paragraph become one."""
        note = Note(f"note {len(self.notes)}", re.sub(r"(?<!\n)\n(?!\n|[-#|] ?|\d\. )", " ", text.strip()))
        self.notes.append(note)
        self.looks[note.id] = Look(title, width)
        return note

    def column(self, *parts: Group | Note) -> None:
        """The next column, its parts from top to bottom."""
        self.columns.append(parts)


def group(title: str, *columns: Sequence[Node | Note]) -> Group:
    return Group(title, tuple(tuple(column) for column in columns))


Box = tuple[float, float, float, float]
"""x, y, width, height."""


@dataclass(frozen=True)
class Layout:
    """Where everything is: nodes and notes by id, without their title bars, and the frames of the groups with their titles."""

    nodes: dict[str, Box]
    groups: list[tuple[str, Box]]


def lay_out(sheet: Sheet, sizes: Mapping[str, tuple[float, float]]) -> Layout:
    """Places for nodes of these sizes (width, height); nothing overlaps."""
    layout = Layout({}, [])
    x = 0.0
    for parts in sheet.columns:
        y, width = 0.0, 0.0
        for part in parts:
            if isinstance(part, Note):
                layout.nodes[part.id] = (x, y + TITLE, *sizes[part.id])
                part_width, part_height = sizes[part.id][0], sizes[part.id][1] + TITLE
            else:
                part_width, part_height = _lay_out_group(part, x, y, sizes, layout)
            y += part_height + COLUMN_GAP
            width = max(width, part_width)
        x += width + COLUMN_GAP
    return layout


def _lay_out_group(part: Group, x: float, y: float, sizes: Mapping[str, tuple[float, float]], layout: Layout) -> tuple[float, float]:
    """Width and height of the group's frame, whose corner is (x, y)."""
    left, bottom = x + PADDING, 0.0
    for column in part.columns:
        top = y + GROUP_TITLE
        for item in column:
            width, height = sizes[item.id]
            layout.nodes[item.id] = (left, top + TITLE, width, height)
            top += TITLE + height + GAP
        left += max(sizes[item.id][0] for item in column) + GAP
        bottom = max(bottom, top - GAP + PADDING)
    frame = (x, y, left - GAP + PADDING - x, bottom - y)
    layout.groups.append((part.title, frame))
    return frame[2], frame[3]


_BUILD = """([looks, notes]) => {
    const BYPASS = 4;
    const ids = {};
    for (const [id, text] of notes) {
        const note = LiteGraph.createNode("MarkdownNote");
        app.graph.add(note);
        note.widgets[0].value = text;
        looks[id].node = note;
    }
    for (const [id, look] of Object.entries(looks)) {
        const node = look.node ?? app.graph.nodes.find(node => String(node.id) === id);
        if (look.title) node.title = look.title;
        if (look.color) [node.color, node.bgcolor] = [look.color, look.bgcolor];
        if (look.models.length) node.properties.models = look.models;
        if (look.bypassed) node.mode = BYPASS;
        for (const widget of node.widgets ?? []) if (widget.name === "control_after_generate") widget.value = "fixed";
        node.setSize([look.width, look.height || node.computeSize()[1] + look.more]);
        ids[id] = look.node ? node.id : id;
    }
    return ids;
}"""

_MEASURE = """([ids, notes]) => {
    const find = id => app.graph.nodes.find(node => String(node.id) === String(ids[id]));
    for (const [id, factor, frame] of notes) {
        const note = find(id), blocks = [...note.widgets[0].element.querySelector(".tiptap").children];
        const scale = note.widgets[0].element.getBoundingClientRect().width / note.widgets[0].element.offsetWidth;
        const top = blocks[0].getBoundingClientRect().top, bottom = blocks.at(-1).getBoundingClientRect().bottom;
        note.setSize([note.size[0], Math.round((bottom - top) / scale * factor + frame)]);
    }
    return Object.fromEntries(Object.keys(ids).map(id => [id, [...find(id).size]]));
}"""

_PLACE = """([nodes, groups]) => {
    for (const [id, [x, y]] of nodes) {
        const node = app.graph.nodes.find(node => String(node.id) === String(id));
        node.pos = [x, y];
    }
    for (const [title, [x, y, width, height]] of groups) {
        const group = new LiteGraph.LGraphGroup(title);
        group.pos = [x, y];
        group.size = [width, height];
        app.graph.add(group);
    }
    app.canvas.setDirty(true, true);
}"""


@dataclass(frozen=True)
class Drawn:
    """What the front end saves: the workflow, and the prompt in API format."""

    workflow: dict[str, Any]
    prompt: dict[str, Any]


def draw(sheet: Sheet, front: FrontEnd) -> Drawn:
    """Draw `sheet` in the front end. AssertionError when that would not send the prompt that the sheet has."""
    front.load_prompt(sheet.graph.prompt, sheet.name)
    looks = {
        key: {
            **{name: getattr(look, name) for name in ("title", "width", "height", "more", "bypassed", "models")},
            **(NOTE_COLOURS if key.startswith("note") else KNOB_COLOURS if look.knob else {}),
        }
        for key, look in sheet.looks.items()
    }
    ids = front.page.evaluate(_BUILD, [looks, [(note.id, note.text) for note in sheet.notes]])
    front.settle()
    sizes = front.page.evaluate(_MEASURE, [ids, [(note.id, NODES_2_TEXT, NOTE_FRAME) for note in sheet.notes]])
    layout = lay_out(sheet, {key: (width, height + sheet.looks[key].room) for key, (width, height) in sizes.items()})
    front.page.evaluate(_PLACE, [[(ids[key], box[:2]) for key, box in layout.nodes.items()], layout.groups])
    front.settle()
    expected = {key: node for key, node in sheet.graph.prompt.items() if not sheet.looks[key].bypassed}
    workflow, prompt = front.saved()
    sent = {key: {"class_type": node["class_type"], "inputs": node["inputs"]} for key, node in prompt.items()}
    assert sent == expected, (sent, expected)
    # Where the author looked last is of no use in another window; without it the front end shows the whole graph.
    workflow["extra"].pop("ds", None)
    return Drawn(workflow, prompt)
