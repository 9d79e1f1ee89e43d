"""Make the shipped workflows again, after nodes, sheets or the front end have changed:

    python -m tests.browser.make_workflows [--no-thumbnails] [NAME ...]

draws the sheets of workflow_sheets.py in the front end of a real ComfyUI (COMFYUI_PATH and so on as for the tests), and writes into
workflows/ what the front end exports, the thumbnails, and into workflows/api/ the twins for scripts. The workflows on the sandbox are
run for their thumbnails, which takes a while; the others show their graph. With --no-thumbnails nothing is run, and the thumbnails stay.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

from PIL import Image

from tests.comfyui import comfyui
from tests.nodes.server import PACK, Server

from .page import FrontEnd, chromium, front_end
from .sheet import Group, Sheet, draw
from .thumbnails import Row, before_after_thumbnail, graph_thumbnail, save_thumbnail
from .workflow_sheets import API_TWINS, SHEETS, VAN_GOGH_EDIT

WORKFLOWS = PACK / "workflows"
SCREEN = (3600, 1700)  # pixels; large, so that the text of nodes is drawn


@contextmanager
def _server(sheets: list[Sheet]) -> Iterator[Server]:
    """A server that lists every file the sheets name, so that no node is framed as lacking one."""
    with tempfile.TemporaryDirectory() as folder:
        server = Server(*comfyui(), Path(folder) / "comfyui")
        named = [(model["directory"], model["name"]) for sheet in sheets for look in sheet.looks.values() for model in look.models]
        for directory, name in [*named, ("cad_edits", f"{VAN_GOGH_EDIT}.safetensors")]:
            place = server.models / directory
            place.mkdir(exist_ok=True)
            (place / name).touch()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _title(sheet: Sheet) -> str:
    """The headline of its first note."""
    return sheet.notes[0].text.splitlines()[0].removeprefix("# ")


def _thumbnail(sheet: Sheet, server: Server, front: FrontEnd) -> Image.Image:
    if any(node["class_type"] == "CADLoadSandbox" for node in sheet.graph.prompt.values()):
        result = server.run(front.prompt(), timeout=3600).check()
        if sheet.shown is not None:
            return graph_thumbnail(_title(sheet), server.images(result, sheet.shown.id)[0])
        rows = [
            Row(compared.prompt, server.images(result, compared.before.id), server.images(result, compared.after.id))
            for compared in sheet.compared
        ]
        return before_after_thumbnail(_title(sheet), rows)
    steps = [part.title for column in sheet.columns for part in column if isinstance(part, Group) and part.title[0].isdigit()]
    return graph_thumbnail(_title(sheet), Image.open(BytesIO(front.picture(steps))))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the shipped workflows again.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="workflows to make; all without one")
    parser.add_argument("--no-thumbnails", action="store_true", help="leave the thumbnails as they are, and run nothing")
    arguments = parser.parse_args()
    names = arguments.names
    sheets = [sheet for sheet in (make() for make in SHEETS) if not names or sheet.name in names]
    (WORKFLOWS / "api").mkdir(exist_ok=True)
    with _server(sheets) as server, chromium() as browser, front_end(browser, server.url, size=SCREEN) as front:
        for sheet in sheets:
            drawn = draw(sheet, front)
            _write(WORKFLOWS / f"{sheet.name}.json", drawn.workflow)
            if sheet.name in API_TWINS:
                _write(WORKFLOWS / "api" / f"{sheet.name}.json", drawn.prompt)
            if not arguments.no_thumbnails:
                save_thumbnail(_thumbnail(sheet, server, front), WORKFLOWS / f"{sheet.name}.jpg")
            print(sheet.name, flush=True)


if __name__ == "__main__":
    main()
