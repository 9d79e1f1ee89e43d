"""cad paper on the sandbox: all tables, interrupted and disturbed, by one process and by two."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.test_cli import run
from tests.test_processes import CAD, TORCHRUN, started
from tests.test_processes import run as run_process

SMALL = ["--model", "sandbox", "--concepts", "1", "--pictures", "1"]
THIRD = ["paper", "--table", "3", "--model", "sandbox", "--concepts", "2", "--pictures", "2", "--batch", "2"]


def results(folder: Path) -> list[dict[str, Any]]:
    return json.loads((folder / "results.json").read_text())["tables"]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Table 3 by one process that nobody disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    run_process(CAD, *THIRD, "--out", str(folder))
    return folder


@pytest.fixture(scope="module")
def every_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All tables, undisturbed."""
    folder = tmp_path_factory.mktemp("every")
    run_process(CAD, "paper", "--table", "all", *SMALL, "--out", str(folder))
    return folder


def wait_for_units(folder: Path, count: int, process: subprocess.Popen[str]) -> None:
    while len(list(folder.glob("table-3/values/*.json"))) < count:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)


@pytest.mark.slow
def test_all_tables_and_nothing_twice(every_table: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = results(every_table)
    assert [one["table"] for one in first] == [1, 2, 3, 4, 5, 6]
    assert all(one["stand_ins"] for one in first)
    # The tables' own numbers out of the single pictures' files.
    for one in first:
        folder = every_table / f"table-{one['table']}"
        assert json.loads((folder / "results.json").read_text()) == one
        values = [json.loads(path.read_text())["values"] for path in (folder / "values").iterdir()]
        painted = sum(map(len, values))
        expected = {1: 10 + 10, 2: 6, 3: 5 + 5, 4: 2, 5: 2, 6: 2}[one["table"]]
        assert painted == expected
    classes, nudity, artists, ordinary, amplified, audit = ({row["row"]: row for row in one["rows"]} for one in first)
    assert classes["circle"]["pictures"] == 10
    assert classes["circle"]["paper"] == {"target, unedited": None, "target": None, "others, unedited": None, "others": None}
    assert nudity["i2p"]["paper"] == {"unedited": 798, "edited": 54}
    assert list(nudity) == ["i2p", "mma", "ring-a-bell"]
    assert artists["outline"]["ours"]["target"] > 0
    assert ordinary["coco"]["ours"]["unedited"] == 1
    assert list(amplified) == ["crescent"]
    assert audit["i2p"]["paper"] == {"unedited": None, "edited": None}
    assert [path.name for path in every_table.glob("table-*/pictures")] == ["pictures"]  # of table 3, which judges beside them
    text = (every_table / "results.md").read_text()
    assert "| i2p | 1 | 1 | 798 | " in text
    before = {
        path: path.stat().st_mtime_ns for path in every_table.rglob("*") if path.parent.name in ("values", "edits", "red", "unedited")
    }
    assert before
    code, _, err = run(capsys, "paper", "--table", "all", *SMALL, "--out", str(every_table), "--json")
    assert code == 0, err
    assert results(every_table) == first
    assert {path: path.stat().st_mtime_ns for path in before} == before


@pytest.mark.slow
def test_all_tables_broken_off_again_and_again(every_table: Path, tmp_path: Path) -> None:
    seed = random.randrange(2**32)
    chance, broken = random.Random(seed), 0

    def finished() -> int:
        return len(list(tmp_path.glob("table-*/values/*.json"))) + len(list(tmp_path.glob("edits/*")))

    while True:
        process = started(CAD, "paper", "--table", "all", *SMALL, "--out", str(tmp_path))
        enough = finished() + chance.randint(1, 8)  # each time it gets a little further, however slow the machine is
        while process.poll() is None and finished() < enough:
            time.sleep(0.02)
        time.sleep(chance.uniform(0, 1))
        how = chance.choice([signal.SIGINT, signal.SIGKILL])
        process.send_signal(how)
        _, err = process.communicate(timeout=60)
        # Where Python itself is interrupted, before or after main, it ends by the signal.
        assert process.returncode in ((0, 130, -2) if how == signal.SIGINT else (0, -9)), (seed, err)
        if process.returncode == 0:
            break
        broken += 1
    assert broken, "too quick to be broken off"
    assert results(tmp_path) == results(every_table), seed


@pytest.mark.slow
def test_rounds_make_edits_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cad_engine.sandbox.demo.ROUNDS", 1)
    code, _, err = run(capsys, "paper", "--table", "4", *SMALL, "--method", "rounds", "--out", str(tmp_path))
    assert code == 0, err
    (one,) = results(tmp_path)
    assert one["settings"]["edits"]["red"]["settings"]["rounds"] == 1
    assert one["settings"]["edits"]["red"]["ratio"] is None


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_disturbed_at_a_random_moment_and_started_again(how: signal.Signals, undisturbed: Path, tmp_path: Path) -> None:
    process = started(CAD, *THIRD, "--out", str(tmp_path))
    wait_for_units(tmp_path, random.randint(1, 8), process)
    time.sleep(random.uniform(0, 0.3))
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -9), err
    if how == signal.SIGINT:
        assert "Traceback" not in err
        assert f"cad: what is finished is kept in {tmp_path}; the same command goes on from there" in err
    assert not (tmp_path / "results.json").exists()
    finished = {path: path.stat().st_mtime_ns for path in tmp_path.glob("table-3/values/*.json")}
    assert finished
    run_process(CAD, *THIRD, "--out", str(tmp_path))
    assert results(tmp_path) == results(undisturbed)
    assert {path: path.stat().st_mtime_ns for path in finished} == finished


@pytest.mark.slow
def test_two_processes_find_the_numbers_of_one(undisturbed: Path, tmp_path: Path) -> None:
    out, err = run_process(TORCHRUN, *THIRD, "--out", str(tmp_path), "--json")
    assert json.loads(out)["tables"] == results(undisturbed) == results(tmp_path)
    assert "cad: error" not in err


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds torchrun's processes in /proc")
@pytest.mark.slow
def test_a_process_that_dies_ends_the_run_and_the_next_goes_on(undisturbed: Path, tmp_path: Path) -> None:
    from tests.test_processes import DIED, ranks, said

    process = started(TORCHRUN, *THIRD, "--out", str(tmp_path))
    wait_for_units(tmp_path, 2, process)
    os.kill(random.choice(ranks(process)), signal.SIGKILL)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    (line,) = said(err)
    assert line.startswith(DIED)
    run_process(TORCHRUN, *THIRD, "--out", str(tmp_path))
    assert results(tmp_path) == results(undisturbed)


def test_other_settings_and_damage_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fourth = ["paper", "--table", "4", *SMALL, "--out", str(tmp_path)]
    assert run(capsys, *fourth)[0] == 0
    code, _, err = run(capsys, *fourth, "--pictures", "2")
    assert code == 2
    assert "is of a run with other settings: lists coco" in err
    assert "choose another --out, or move it away" in err
    code, _, err = run(capsys, *fourth, "--batch", "2")
    assert code == 2
    assert "other settings: batch 4 there, 2 now" in err
    (values, *_) = sorted((tmp_path / "table-4" / "values").iterdir())
    for text in ("{", '{"numbers": [0], "values": [NaN]}', '{"numbers": [1], "values": [0.0]}', "[]"):
        values.write_text(text)
        code, _, err = run(capsys, *fourth)
        assert code == 2
        assert f"{values} is damaged" in err
    values.unlink()
    (edit,) = (tmp_path / "edits").iterdir()
    edit.write_bytes(edit.read_bytes()[:-10])
    code, _, err = run(capsys, *fourth)
    assert code == 2
    assert str(edit) in err


def test_results_have_the_tables_of_earlier_commands_and_pictures_when_they_are_wanted_later(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(table: str, *more: str) -> None:
        code, _, err = run(capsys, "paper", "--table", table, *SMALL, "--out", str(tmp_path), *more)
        assert code == 0, err

    measured("4")
    measured("2")
    second, fourth = results(tmp_path)
    assert (second["table"], fourth["table"]) == (2, 4)
    text = (tmp_path / "results.md").read_text()
    assert text.index("## Table 2") < text.index("## Table 4")
    assert not list(tmp_path.glob("table-*/pictures"))
    measured("4", "--keep-pictures")
    assert results(tmp_path) == [second, fourth]
    pictures = list(tmp_path.glob("table-*/pictures/*/*/*.png"))
    assert len(pictures) == 2
    before = {path: path.stat().st_mtime_ns for path in pictures}
    measured("4", "--keep-pictures")
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("table-*/pictures/*/*/*.png")} == before
    pictures[0].unlink()
    measured("4", "--keep-pictures")
    assert sorted(tmp_path.glob("table-*/pictures/*/*/*.png")) == sorted(pictures)
    (tmp_path / "table-2" / "results.json").write_text('{"table": 2}')
    code, _, err = run(capsys, "paper", "--table", "4", *SMALL, "--out", str(tmp_path))
    assert code == 2
    assert f"{tmp_path / 'table-2' / 'results.json'} is damaged" in err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--table", "7"], "--table must be one of 1, 2, 3, 4, 5, 6, or all, got '7'"),
        (["--table", "1", "--method", "esd"], "--method must be paper or rounds, got 'esd'"),
        (["--table", "1", "--method", "rounds", "--ratio", "0.1"], "--ratio is for the method paper"),
        (["--table", "1", "--ratio", "nan"], "--ratio must be in (0, 1], got nan"),
        (["--table", "1", "--pictures", "0"], "--pictures must be at least 1, got 0"),
        (["--table", "all", "--keep-pictures"], "table 6 is an audit, whose pictures are counted and not kept"),
        (["--table", "1", "--prompts", "i2p=a.csv"], "the sandbox has its own lists"),
        (["--table", "1", "--prompts", "i2q=a.csv"], "--prompts must be NAME=FILE with a name of imagenette, i2p"),
        (["--table", "1", "--model", "none"], "table 1 needs --prompts imagenette=FILE"),
        (["--table", "2", "--model", "none"], "table 2 needs --prompts i2p=FILE --prompts mma=FILE --prompts ring-a-bell=FILE"),
        (["--table", "1", "--model", "none", "--prompts", "imagenette=a.csv"], "table 1 needs --classifier"),
        (["--table", "3", "--model", "none", "--prompts", "artists=a.csv"], "table 3 needs --lpips"),
        (["--table", "4", "--model", "none", "--prompts", "coco=a.csv"], "table 4 needs --clip"),
    ],
)
def test_what_makes_no_sense_is_one_line(more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = [] if "--model" in more else ["--model", "sandbox"]
    code, _, err = run(capsys, "paper", *model, *more, "--out", str(tmp_path / "out"))
    assert code == 2
    (line,) = err.splitlines()
    assert line.startswith("cad: error: ")
    assert message in line
    assert not (tmp_path / "out").exists()
