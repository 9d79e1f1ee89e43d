"""The demo as a newcomer runs it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.paper_rule import amplify_rows
from cad_engine.attribution_file import load_attribution
from cad_engine.checkpoints.load import load_model
from cad_engine.concept import concept_objective
from cad_engine.concept_settings import ConceptSettings
from cad_engine.edit_file import load_edit
from cad_engine.sandbox.demo import DEFAULT_RATIO, DemoSettings, run_demo
from cad_engine.sandbox.judge import Judge

FILES = {"report.html", "grid.png", "attribution.safetensors", "edit.safetensors", "results.json"}


def test_erasing_the_star(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    results = run_demo(DemoSettings(pictures=24), out)
    assert results["method"] == "rounds"
    assert {path.name for path in out.iterdir()} == FILES
    assert json.loads((out / "results.json").read_text()) == results
    assert results["weights_changed"] == len(load_edit(out / "edit.safetensors")) > 0
    assert results["weights_total"] == load_attribution(out / "attribution.safetensors").weights_total
    assert results["before"]["target"] >= 0.9
    assert results["before"]["others"] >= 0.85
    # The concept goes, and it is the attribution that does it: as many random weights leave it.
    assert results["after"]["target"] <= 0.2
    assert results["random_weights"]["target"] >= results["after"]["target"] + 0.5
    # And nothing else goes.
    assert results["after"]["others"] >= results["before"]["others"] - 0.1
    assert Image.open(out / "grid.png").width > 600
    page = (out / "report.html").read_text()
    assert "data-cad-viewer" in page
    assert "default-src 'none'; " in page  # it may fetch nothing


def test_the_papers_method_is_one_choice_away(tmp_path: Path) -> None:
    results = run_demo(DemoSettings(method="paper", pictures=18), tmp_path)
    assert results["method"] == "first order, one shot"
    assert results["selection"] == "row"
    assert results["after"]["target"] <= results["before"]["target"] - 0.3
    assert results["random_weights"]["target"] >= results["after"]["target"] + 0.3


@pytest.mark.slow
def test_amplifying_the_rare_shape() -> None:
    row = amplify_rows(load_model("sandbox"), Judge.load(), DEFAULT_RATIO["amplify"], "row_min1", pictures=48)
    for control in ("before", "random_weights", "another_shapes_images"):
        assert row["after"]["target"] >= row[control]["target"] + 0.2, row


def test_an_interrupted_demo_leaves_nothing_behind(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    process = subprocess.Popen(
        [sys.executable, "-m", "cad_engine.cli", "demo", "--out", str(out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(
            signal.SIGINT, signal.SIG_DFL
        ),  # a test run in the background ignores it, and children inherit that
    )
    deadline = time.monotonic() + 120
    while not out.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(4)  # in the middle of the work
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "Traceback" not in err
    assert "interrupted" in err
    assert list(out.iterdir()) == []


def test_the_objective_needs_the_concept() -> None:
    """J of the concept against its matched base is far above J of two words for the same thing."""
    denoiser = load_model("sandbox")
    values = {
        base: concept_objective(denoiser, ConceptSettings("a star", base, trajectories=4, steps=5)).value(denoiser)
        for base in ("a shape", "star")
    }
    assert values["a shape"] > 3 * values["star"]
