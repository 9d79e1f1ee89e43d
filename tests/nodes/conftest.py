"""One ComfyUI server for all tests of the nodes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.comfyui import comfyui

from .server import Server


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server, shared by all tests of the session: what one leaves there (models, history) the next one finds."""
    running = Server(*comfyui(), tmp_path_factory.mktemp("comfyui"))
    running.start()
    try:
        yield running
    finally:
        running.stop()
