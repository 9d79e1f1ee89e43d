"""What all tests share: one ComfyUI server, and, where several processes run them (pytest -n), cores and a port of their own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
import torch

from tests.comfyui import comfyui

if TYPE_CHECKING:
    from tests.nodes.server import Server


def pytest_configure() -> None:
    """Share the machine between xdist's processes, for the programs that tests start, too."""
    if worker := os.environ.get("PYTEST_XDIST_WORKER"):
        threads = max(1, torch.get_num_threads() // int(os.environ["PYTEST_XDIST_WORKER_COUNT"]))
        torch.set_num_threads(threads)
        os.environ["OMP_NUM_THREADS"] = str(threads)
        os.environ["PET_MASTER_PORT"] = str(29500 + int(worker.removeprefix("gw")))  # where torchrun's processes meet


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A running server, shared by all tests of this process: what one leaves there (models, history) the next one finds."""
    from tests.nodes.server import Server

    running = Server(*comfyui(), tmp_path_factory.mktemp("comfyui"))
    running.start()
    try:
        yield running
    finally:
        running.stop()
