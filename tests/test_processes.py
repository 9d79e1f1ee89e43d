"""The command line in two real processes of torchrun: the same results as one, and what is left when they are killed or interrupted."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from cad_engine.attribution import Attribution
from cad_engine.attribution_file import load_attribution
from cad_engine.checkpoints.load import load_model
from cad_engine.concept_settings import ConceptSettings
from cad_engine.errors import CadError
from cad_engine.processes import Processes
from cad_engine.several_concepts import Wanted, attribute_concepts
from cad_engine.shared_sampling import check_shared
from tests.checkpoints.tiny_checkpoints import make_tiny

ROOT = Path(__file__).parent.parent
CAD = [sys.executable, "-m", "cad_engine.cli"]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "cad_engine.cli"]
PAPER = ["--method", "paper", "--width", "32", "--height", "32", "--steps", "2", "--batch", "2"]
CONCEPTS = ("a star", "a heart", "a ring", "a cross", "an arrow", "a square")
IN_PROC = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds torchrun's processes in /proc")
DIED = "cad: error: a process of this run has died"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("model")
    make_tiny("sd1").pipeline().save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="module")
def listed(model: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Arguments of `cad attribute-list` that take some seconds, but for the folder."""
    path = tmp_path_factory.mktemp("list") / "list.txt"
    path.write_text("\n".join(f"{concept} | a shape" for concept in CONCEPTS))
    return ["attribute-list", model, str(path), *PAPER, "--trajectories", "16"]


@pytest.fixture(scope="module")
def long_list(model: str, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The same for a list that no machine is through with before it is interrupted, however long the test has to wait for its turn."""
    path = tmp_path_factory.mktemp("long") / "list.txt"
    path.write_text("\n".join(f"{concept} {number} | a shape" for number in range(100) for concept in CONCEPTS))
    return ["attribute-list", model, str(path), *PAPER, "--trajectories", "8"]


@pytest.fixture(scope="module")
def by_one(listed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that one process makes of the list."""
    folder = tmp_path_factory.mktemp("by_one")
    run(CAD, *listed, "--out", str(folder))
    return folder


def started(launcher: list[str], *arguments: str, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*launcher, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a test run in the background ignores it, and so would they
    )


def run(launcher: list[str], *arguments: str, code: int = 0) -> tuple[str, str]:
    """stdout and stderr of a command that ends with exit code `code`."""
    process = started(launcher, *arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def ranks(process: subprocess.Popen[str]) -> list[int]:
    """The processes that torchrun has started."""
    return [int(pid) for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]


def wait_for_files(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    while len(list(folder.glob("*.safetensors"))) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.02)


def assert_alike(ours: Attribution, theirs: Attribution, tolerance: float) -> None:
    assert ours.info == theirs.info
    assert ours.timesteps == theirs.timesteps
    assert ours.layers.keys() == theirs.layers.keys()
    for name, layer in ours.layers.items():
        other = theirs.layers[name]
        for one, two in (
            (dense(ours, name), dense(theirs, name)),
            (layer.timestep_mass, other.timestep_mass),
            (layer.row_mass, other.row_mass),
        ):
            assert (one - two).norm() <= tolerance * two.norm()


def dense(attribution: Attribution, name: str) -> torch.Tensor:
    layer = attribution.layers[name]
    scores = torch.zeros(layer.out_features * layer.in_features)
    scores[layer.index] = layer.score
    return scores


def assert_same_files(ours: Path, theirs: Path) -> None:
    names = sorted(path.name for path in theirs.iterdir())
    assert sorted(path.name for path in ours.glob("*.safetensors")) == names
    for name in names:
        assert_alike(load_attribution(ours / name), load_attribution(theirs / name), 1e-6)


def said(err: str) -> list[str]:
    """What cad itself says on stderr, beside torchrun; nowhere a traceback of ours."""
    assert f'File "{ROOT / "cad_engine"}' not in err, err  # not ROOT: an environment in .venv there holds torchrun, too
    return [line for line in err.splitlines() if line.startswith("cad: ")]


def test_two_processes_add_up_to_one(model: str, tmp_path: Path) -> None:
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    arguments = ["attribute", model, "--concept", "a star", "--base", "a shape", *PAPER, "--trajectories", "5"]
    run(CAD, *arguments, "--out", str(one))
    out, err = run(TORCHRUN, *arguments, "--out", str(two), "--json")
    assert json.loads(out)["file"] == str(two)  # printed once
    assert said(err) == []
    assert_alike(load_attribution(two), load_attribution(one), 1e-5)


def test_two_processes_make_the_files_of_one(listed: list[str], by_one: Path, tmp_path: Path) -> None:
    out, err = run(TORCHRUN, *listed, "--out", str(tmp_path), "--json")
    assert said(err) == []
    result = json.loads(out)
    assert (result["made"], result["there_already"], result["processes"]) == (len(CONCEPTS), 0, 2)
    assert_same_files(tmp_path, by_one)
    assert len(list(tmp_path.iterdir())) == len(CONCEPTS)


@IN_PROC
@pytest.mark.slow
def test_a_killed_process_ends_the_run_and_the_next_run_goes_on(listed: list[str], by_one: Path, tmp_path: Path) -> None:
    process = started(TORCHRUN, *listed, "--out", str(tmp_path))
    wait_for_files(tmp_path, 1, process)
    time.sleep(random.uniform(0, 0.5))
    os.kill(random.choice(ranks(process)), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    (line,) = said(err)
    assert line.startswith(DIED)
    finished = len([load_attribution(path) for path in tmp_path.glob("*.safetensors")])
    assert 1 <= finished < len(CONCEPTS)
    out, _ = run(TORCHRUN, *listed, "--out", str(tmp_path), "--json")
    result = json.loads(out)
    assert (result["made"], result["there_already"]) == (len(CONCEPTS) - finished, finished)
    assert_same_files(tmp_path, by_one)


@IN_PROC
@pytest.mark.slow
def test_torchruns_restarts_go_on(listed: list[str], by_one: Path, tmp_path: Path) -> None:
    process = started([*TORCHRUN[:3], "--max-restarts", "1", *TORCHRUN[3:]], *listed, "--out", str(tmp_path), "--json")
    wait_for_files(tmp_path, 1, process)
    os.kill(random.choice(ranks(process)), signal.SIGKILL)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert json.loads(out)["there_already"] >= 1
    assert_same_files(tmp_path, by_one)


def test_ctrl_c_ends_all_and_keeps_finished_files(long_list: list[str], tmp_path: Path) -> None:
    process = started(TORCHRUN, *long_list, "--out", str(tmp_path))
    wait_for_files(tmp_path, 1, process)
    process.send_signal(signal.SIGINT)  # torchrun passes it on
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert said(err) == ["cad: interrupted; the model and all finished files are as they were"]
    assert 1 <= len([load_attribution(path) for path in tmp_path.iterdir()]) < 100 * len(CONCEPTS)


def test_every_process_ends_with_the_exit_code_of_an_interrupt(long_list: list[str], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # What torchrun tells its processes; it keeps their exit codes to itself.
    meeting = {"TORCHELASTIC_RUN_ID": "test", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    both = [started(CAD, *long_list, "--out", str(tmp_path), **meeting, RANK=rank, LOCAL_RANK=rank) for rank in ("0", "1")]
    wait_for_files(tmp_path, 1, both[0])
    for process in both:
        process.send_signal(signal.SIGINT)
    for process in both:
        _, err = process.communicate(timeout=60)
        assert process.returncode == 130, err
        assert "Traceback" not in err
    assert 1 <= len([load_attribution(path) for path in tmp_path.iterdir()]) < 100 * len(CONCEPTS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["attribute", "MODEL", "--concept", "a", "--out", "a.safetensors"], "and this is rounds to erase; start it without torchrun, or "),
        (["demo"], "cad demo is for one process, and torchrun has started 2; start it without"),
    ],
)
def test_what_several_processes_cannot_share_is_said_once(arguments: list[str], message: str, model: str, tmp_path: Path) -> None:
    places = {"MODEL": model, "a.safetensors": str(tmp_path / "a.safetensors")}
    _, err = run(TORCHRUN, *(places.get(argument, argument) for argument in arguments), code=1)
    (line,) = said(err)
    assert message in line
    assert f"\n{line}\n" in err  # whatever another process has written and not ended
    assert list(tmp_path.iterdir()) == []


def test_only_the_papers_erasing_is_shared() -> None:
    check_shared(ConceptSettings("a star"))
    for settings, this in (
        (ConceptSettings("a star", keep=("a heart",), rounds=1), "rounds to erase"),
        (ConceptSettings("a star", keep=("a heart",)), "per harm to erase"),
        (ConceptSettings("a star", objective="amplify"), "paper to amplify"),
    ):
        with pytest.raises(CadError, match=f"and this is {this}; start it without torchrun"):
            check_shared(settings)


def test_each_process_has_the_gpu_of_its_number() -> None:
    second = Processes(rank=5, size=8, local_rank=1)
    assert [second.device(name) for name in ("cuda", "cpu", "mps")] == ["cuda:1", "cpu", "mps"]
    assert Processes().device("cuda:3") == "cuda:3"
    with pytest.raises(CadError, match="--device cuda:0 is one GPU, and this run has 8 processes; give --device cuda"):
        second.device("cuda:0")


def test_a_concept_that_fails_is_named_and_what_is_finished_stays(model: str, tmp_path: Path) -> None:
    denoiser, alone = load_model(model), Processes()
    settings = [ConceptSettings(concept, trajectories=1, steps=1, size=(8, 8)) for concept in CONCEPTS]
    wanted = [Wanted(one, tmp_path / f"{number}.safetensors") for number, one in enumerate(settings)]
    assert attribute_concepts(denoiser, wanted[:1], alone) == [wanted[0].path]
    layer = next(module for name, module in denoiser.layers.items() if ".ff." in name)
    before = layer.weight[0, 1].item()
    with torch.no_grad():
        layer.weight[0, 1] = float("inf")  # no weight that the fingerprint looks at
    with pytest.raises(CadError, match=r"'a heart': the attribution of .* is not finite"):
        attribute_concepts(denoiser, wanted, alone)
    assert list(tmp_path.iterdir()) == [wanted[0].path]
    with torch.no_grad():
        layer.weight[0, 1] = before
    stages: dict[str, tuple[int, int]] = {}
    made = attribute_concepts(denoiser, wanted, alone, lambda stage, done, total: stages.update({stage: (done, total)}))
    assert made == [one.path for one in wanted[1:]]
    assert stages == {"concepts": (6, 6), **{f"{concept}: attribution": (1, 1) for concept in CONCEPTS[1:]}}
