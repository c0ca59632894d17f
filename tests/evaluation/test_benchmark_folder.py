"""What a benchmark makes of a folder that already holds something: earlier figures, damaged ones, or other files."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from fake_sets import write_png
from PIL import Image

from evaluation import benchmark
from evaluation.run_folder import RunFolder

SIMULATED = str(Path(benchmark.__file__).resolve().parent.parent / "configs" / "benchmark" / "simulated.yaml")


def _noise(seed):
    return np.random.default_rng(seed).integers(0, 256, (40, 60, 3), dtype=np.uint8)


@pytest.fixture
def data(tmp_path):
    """A set of two captures, one of them with all that a capture can have, and results of another program."""
    for seed, part in enumerate(("blurred", "sharp", "other_focus")):
        for number, name in enumerate("ab"):
            write_png(tmp_path / "set" / part / f"{name}.png", _noise(10 * seed + number))
    for name in "ab":
        write_png(tmp_path / "set" / "mask" / f"{name}.png", np.full((40, 60), 255, np.uint8))
        write_png(tmp_path / "made" / f"{name}.png", _noise(77))
    return tmp_path


def _command(data, *more):
    methods = f"methods=[input,folder:{data / 'made'}]"
    common = ["data.protocol=real", f"data.root={data / 'set'}", methods, "metrics=[psnr]", "device=cpu"]
    return [*common, f"out={data / 'out'}", *more]


def _rows(data):
    rows = json.loads((data / "out" / "results.json").read_text())["rows"]
    return {(row["name"], row["column"]): row for row in rows}


def _measured(data):
    return len([line for line in (data / "out" / "rows-000.jsonl").read_text().splitlines() if line])


@pytest.mark.parametrize(
    ("part", "changed"),
    [
        ("set/blurred", {"input", "folder-made"}), ("set/sharp", {"input", "folder-made"}),
        ("set/mask", {"input", "folder-made"}), ("set/other_focus", {"input", "folder-made"}),
        ("made", {"folder-made"}),
    ],
)  # fmt: skip
def test_files_that_have_changed_are_measured_anew_and_no_others(data, part, changed):
    assert benchmark.main(_command(data)) == 0
    before = _rows(data)
    picture, half = _noise(99), np.full((40, 60), 255, np.uint8)
    half[:, 30:] = 0
    write_png(data / part / "b.png", half if part == "set/mask" else picture)
    assert benchmark.main(_command(data)) == 0
    after = _rows(data)
    assert {key for key in before if after[key] != before[key]} == {("b", column) for column in changed}
    assert _measured(data) == 4 + len(changed)
    # Figures and pictures are those of a run from the start.
    shutil.copytree(data / "out" / "pictures", data / "went on")
    assert benchmark.main(_command(data, "overwrite=true")) == 0
    for key, row in _rows(data).items():
        assert {**row, "seconds": 0, "peak_memory_mib": 0} == {**after[key], "seconds": 0, "peak_memory_mib": 0}
        for kind in ("input", "reference", "restored"):
            file = Path(row["pictures"][kind])
            assert (data / "went on" / file.relative_to("pictures")).read_bytes() == (data / "out" / file).read_bytes()
    if part == "set/blurred":
        assert (np.asarray(Image.open(data / "out" / after["b", "input"]["pictures"]["input"])) == picture).all()


def test_rows_that_do_not_say_what_they_were_made_from_are_measured_anew(data):
    assert benchmark.main(_command(data)) == 0
    rows = data / "out" / "rows-000.jsonl"
    old = [json.loads(line) for line in rows.read_text().splitlines() if line]
    rows.write_text("".join(json.dumps({key: row[key] for key in row if key != "made_from"}) + "\n" for row in old))
    assert benchmark.main(_command(data)) == 0
    assert _measured(data) == 8
    assert all(len(row["made_from"]) == 4 + (column != "input") for (_, column), row in _rows(data).items())


def test_a_photo_whose_noise_is_another_is_measured_anew(data):
    cells = np.random.default_rng(0).integers(0, 256, (18, 18, 3), dtype=np.uint8)
    write_png(data / "photos" / "b.png", cells.repeat(16, 0).repeat(16, 1))
    command = [SIMULATED, f"data.root={data / 'photos'}", "methods=[input]", "metrics=[psnr]", f"out={data / 'out'}"]
    assert benchmark.main([*command, "pictures=false"]) == 0
    before = json.loads((data / "out" / "results.json").read_text())["rows"]
    shutil.copy(data / "photos" / "b.png", data / "photos" / "a.png")
    assert benchmark.main([*command, "pictures=false"]) == 0
    after = json.loads((data / "out" / "results.json").read_text())["rows"]
    # The place in the sorted folder seeds the noise: what was the first photo now has that of the second.
    for old, first, second in zip(before, after[:3], after[3:], strict=True):
        assert (first["name"], second["name"]) == ("a", "b") and first["input"] == old["input"] != second["input"]


@pytest.mark.parametrize("name", ["results.md", "results.json", "report.html"])
def test_a_file_of_something_else_is_not_replaced(data, capsys, name):
    (data / "out").mkdir()
    (data / "out" / name).write_text("mine")
    assert benchmark.main(_command(data)) == 1
    error = capsys.readouterr().err
    assert f"{data / 'out' / name}: expected no such file in a folder without the run.json" in error
    assert "overwrite=true" in error and error.count("\n") == 1
    assert [file.name for file in (data / "out").iterdir()] == [name]
    assert (data / "out" / name).read_text() == "mine"
    assert benchmark.main(_command(data, "overwrite=true")) == 0
    assert (data / "out" / name).read_text() != "mine"
    # It is the benchmark's own now.
    assert benchmark.main(_command(data)) == 0


DEEP = b"[" * 100_000


@pytest.mark.parametrize("content", [b"3", b"[1]", b"\xff\xfe{", b"", DEEP], ids=range(5))
def test_a_damaged_identity_is_named(data, capsys, content):
    (data / "out").mkdir()
    (data / "out" / "run.json").write_bytes(content)
    assert benchmark.main(_command(data)) == 1
    error = capsys.readouterr().err
    assert f"{data / 'out' / 'run.json'}: expected a JSON object" in error and error.count("\n") == 1
    assert (data / "out" / "run.json").read_bytes() == content


def test_rows_that_are_not_whole_are_measured_anew(data):
    assert benchmark.main(_command(data)) == 0
    whole = _rows(data)
    row = whole["b", "input"]
    damaged = [row | {key: value} for key, value in (
        ("metrics", {"psnr": "20"}), ("metrics", {}), ("input", {"psnr": True}), ("input", 5), ("seconds", None),
        ("seconds", 10**400), ("other_focus", {}), ("scene", []), ("made_from", 5), ("made_from", [[]]), ("counted", 1),
        ("name", 3), ("peak_memory_mib", float("nan")), ("pictures", "x"),
    )] + [{key: row[key] for key in row if key != lost} for lost in row if lost != "scene"]  # fmt: skip
    lines = [b"3", b"[1]", b"\xff\xfe", DEEP, *(json.dumps(one).encode() for one in damaged)]
    rows = data / "out" / "rows-000.jsonl"
    kept = [line for line in rows.read_bytes().splitlines() if line and json.loads(line)["column"] != "input"]
    for line in lines:
        rows.write_bytes(b"\n".join([*kept, line, b""]))
        assert len(RunFolder(data / "out", json.loads((data / "out" / "run.json").read_text())).rows()) == 2 + (
            b"made_from" not in line and line.startswith(b"{")
        )
    rows.write_bytes(b"\n".join([*kept, *lines]))
    assert benchmark.main(_command(data)) == 0
    after = _rows(data)
    assert {key for key in whole if after[key] != whole[key]} == {("a", "input"), ("b", "input")}
