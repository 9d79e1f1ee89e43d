"""The tiny models, written once, and a guard against the network."""

from __future__ import annotations

import dataclasses
import socket
from pathlib import Path

import pytest

from .tiny_checkpoints import UNETS, Tiny, make_tiny


@pytest.fixture(scope="session")
def tiny() -> dict[str, Tiny]:
    """One tiny model of each family, and "inpaint", an SD 1.x with nine input channels."""
    models = {family: make_tiny(family) for family in UNETS}
    models["inpaint"] = dataclasses.replace(models["sd1"], unet=make_tiny("sd1", in_channels=9).unet)
    return models


@pytest.fixture(scope="session")
def files(tiny: dict[str, Tiny], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The single file of every tiny model."""
    folder = tmp_path_factory.mktemp("single_files")
    return {name: model.save(folder / f"{name}.safetensors") for name, model in tiny.items()}


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading must not reach for the network, not even where it would forgive a failure."""

    def refuse(*_: object) -> None:
        pytest.fail("a checkpoint test tried to use the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
