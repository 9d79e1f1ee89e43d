"""The Attribution Viewer of web/viewer inside of an HTML page: its modules in one script, its data as JSON beside it.

A page that is opened as a file cannot import modules, so they are put one after the other, each in a function of its own. They keep to
what that needs: imports on one line, of names, from files beside them; exports where things are declared.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

from ..attribution import Attribution
from ..errors import CadError
from ..overlap import RATIO
from ..selection import Rule
from .overlap_data import overlap_data
from .viewer_data import described_layers, viewer_data

ENTRY = "viewer.js"
_IMPORT = re.compile(r'^import \{ ([^}]+) \} from "(\./[\w./-]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) (\w+))", re.MULTILINE)
_EXPORT_LIST = re.compile(r"^export \{ (\w+) \};$", re.MULTILINE)
_START = """
for (const place of document.querySelectorAll("[data-cad-viewer]")) {
    const { inputs, ...data } = JSON.parse(document.getElementById(place.dataset.cadViewer).textContent);
    const viewer = createViewer(place, { layout: "page" });
    viewer.set(inputs);
    viewer.show(data);
    place.viewer = viewer;
}
"""


def _folder() -> Path:
    """web/viewer, which lies beside the engine in a clone, and in a package of its own in an installed wheel (see pyproject.toml)."""
    for folder in (Path(__file__).parent / "web_viewer", Path(__file__).parents[2] / "web" / "viewer"):
        if (folder / ENTRY).is_file():
            return folder
    raise CadError(f"the viewer's files are missing: no web/viewer/{ENTRY} beside {Path(__file__).parents[1]}; install CAD again")


@cache
def viewer_style() -> str:
    """Its style sheets, one text."""
    return "\n".join((_folder() / name).read_text(encoding="utf-8") for name in ("vendor/uPlot.css", "viewer.css"))


@cache
def viewer_script() -> str:
    """Its modules as one script that starts a viewer in each element with the attribute data-cad-viewer, the id of its data."""
    modules: dict[str, str] = {}
    _add(_folder(), ENTRY, modules, ())
    names = {name: f"module{number}" for number, name in enumerate(modules)}
    parts = [f"const {names[name]} = (() => {{\n{_linked(text, name, names)}\n}})();" for name, text in modules.items()]
    script = "\n".join(['"use strict";', *parts, f"const {{ createViewer }} = {names[ENTRY]};", _START])
    return script.replace("</", "<\\/").replace("<!--", "<\\!--")


def _target(importer: str, path: str) -> str:
    return (Path(importer).parent / path).as_posix()


def _add(folder: Path, name: str, modules: dict[str, str], importers: tuple[str, ...]) -> None:
    """Put the modules that `name` imports, and then itself, into `modules`."""
    if name in importers:
        raise AssertionError(f"modules of the viewer import each other: {' -> '.join((*importers, name))}")
    if name in modules:
        return
    text = (folder / name).read_text(encoding="utf-8")
    for match in _IMPORT.finditer(text):
        _add(folder, _target(name, match[2]), modules, (*importers, name))
    modules[name] = text


def _linked(text: str, name: str, modules: dict[str, str]) -> str:
    """The body of a function that returns what the module exports."""
    exported = [match[1] for pattern in (_EXPORT, _EXPORT_LIST) for match in pattern.finditer(text)]
    text = _IMPORT.sub(lambda match: f"const {{ {match[1].replace(' as ', ': ')} }} = {modules[_target(name, match[2])]};", text)
    text = _EXPORT_LIST.sub("", _EXPORT.sub("", text))
    return f"{text}\nreturn {{ {', '.join(exported)} }};"


def script_hash(script: str) -> str:
    """What a content security policy calls `script`, so that it alone may run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode('utf-8')).digest()).decode('ascii')}"


def shown_data(
    attribution: Attribution,
    others: tuple[Attribution, ...] = (),
    ratio: float | None = None,
    rule: Rule = "global",
    layers: str = "",
    chosen: Attribution | None = None,
) -> dict[str, Any]:
    """All that a viewer shows: the data of `attribution`, and what the edit from its `chosen` layers would touch of `others`.

    `ratio` None is all that rounds found, or a usual ratio of an attribution without rounds.
    Raises CadError where the others cannot be compared with it.
    """
    part = attribution if chosen is None else chosen
    overlap = overlap_data([part, *others], ratio, rule)
    if ratio is None:
        ratio = 0.0 if attribution.solved else min(RATIO, attribution.keep_ratio)
    if overlap is not None and chosen is not None:
        overlap["layers"] = _in_order(overlap["layers"], attribution, chosen)
    return {
        **viewer_data(attribution, part.layers.keys()),
        "asked": {"ratio": ratio, "rule": rule},
        "overlap": overlap,
        "inputs": {"ratio": ratio, "rule": rule, "layers": layers},
    }


def _in_order(entries: list[Any], attribution: Attribution, chosen: Attribution) -> list[Any]:
    """Entries of the chosen layers, with None in the places of the others."""
    of = dict(zip(described_layers(chosen), entries, strict=True))
    return [of.get(name) for name in described_layers(attribution)]


def json_for_html(data: Any) -> str:
    """`data` as JSON that cannot end the element that it stands in."""
    text = json.dumps(data, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
