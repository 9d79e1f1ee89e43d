"""One ComfyUI server for all tests of the nodes and of the front end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.comfyui import comfyui

if TYPE_CHECKING:
    from tests.nodes.server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server, shared by all tests of the session: what one leaves there (models, history) the next one finds."""
    from tests.nodes.server import Server

    running = Server(*comfyui(), tmp_path_factory.mktemp("comfyui"))
    running.start()
    try:
        yield running
    finally:
        running.stop()
