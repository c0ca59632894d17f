"""Batches that are interrupted, killed, resumed and shared: whole results, and no photo done twice."""

import json
import multiprocessing
import os
import random
import signal
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from command_line import fails, files, outputs
from PIL import Image

import samplers.deblur
from photos import read, read_map, write_map
from samplers.pipeline import Restoration
from samplers.summary import Row, write_summary

SUFFIXES = ("png", "tif", "jpg", "webp")


@pytest.fixture
def folder(codes, tmp_path):
    """Eight small photos in a tree."""
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    for number in range(8):
        picture = np.roll(codes, number, axis=1)[: 30 + number]
        Image.fromarray(picture).save(folder / ("deep" if number % 2 else ".") / f"{number}.{SUFFIXES[number % 4]}")
    return folder


class Brightening:
    """A method that takes no time, for tests of what is around it; or, after the first photo, a long time."""

    delays = iter(())

    def __call__(self, image, radius_map, callback=None, confidence=None):
        time.sleep(next(self.delays, 0.02))
        return Restoration((1.1 * image).clamp(max=1), *self.estimate_map(image), 0.01, 0)

    def estimate_map(self, image):
        return torch.full((1, 1, *image.shape[-2:]), 1.5), torch.full((1, 1, *image.shape[-2:]), 0.5)


@pytest.fixture
def brightening(monkeypatch):
    """Lets the script do that instead of restoring."""
    monkeypatch.setattr(samplers.deblur, "make_method", lambda *_: (Brightening(), torch.device("cpu"), {}))


def start(out, log, *arguments):
    """Runs the script in a process of its own, a copy of this one, which needs no second to import."""
    from samplers.deblur import main

    def run():
        # Threads do not survive a fork, and whoever waits for them waits for ever.
        torch.set_num_threads(1)
        # A shell lets what it runs in the background ignore Ctrl-C.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        sys.stdout.flush()
        os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
        os.dup2(os.open(f"{log}.errors", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
        code = main([*map(str, arguments), "-o", str(out), "--device", "cpu", "--method", "tv", "--quiet"])
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    return process


def finished(out):
    """Inode of each result whose map, the last to come, is there: all of them must be whole."""
    inodes = {}
    for map_file in out.rglob("*_defocus.tif"):
        if map_file.parent.name.startswith("."):
            continue  # Not in place yet.
        result = map_file.with_name(map_file.name.removesuffix("_defocus.tif"))
        assert read(result).pixels.shape[:2] == read_map(map_file).shape
        inodes[str(result.relative_to(out))] = os.stat(result).st_ino, os.stat(map_file).st_ino
    return inodes


def hidden(out):
    return [name for name in files(out) if any(part.startswith(".") for part in name.split("/"))]


@pytest.mark.parametrize("kind", [MemoryError, partial(RuntimeError, "[enforce fail] can't allocate memory")])
def test_too_little_memory_for_one_photo_stops_no_other(brightening, deblur, folder, out, monkeypatch, kind):
    restored = Brightening.__call__

    def short(self, image, *arguments):
        if image.shape[-2] == 33:
            raise kind()
        return restored(self, image, *arguments)

    monkeypatch.setattr(Brightening, "__call__", short)
    code, _, errors = deblur(folder, "--no-report")
    assert code == 6 and len(finished(out)) == 7
    assert [error for error in errors if error.startswith("deblur.py")] == [
        f"deblur.py: {folder / 'deep' / '3.webp'}: expected a photo that fits into memory, got too little memory"
    ]
    rows = json.loads((out / "summary.json").read_text("utf-8"))["photos"]
    assert sorted(row["code"] for row in rows) == [0] * 7 + [4]


@pytest.mark.parametrize("seed", range(2))
def test_a_batch_that_is_killed_again_and_again_is_done_once(brightening, folder, tmp_path, out, seed):
    draw, before, log = random.Random(seed), {}, tmp_path / "log"
    for attempt in range(5):
        process = start(out, log, folder, "--resume", "--no-report")
        process.join(draw.uniform(0.02, 0.3))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL if attempt % 2 == 0 else signal.SIGINT)
        process.join()
        now = finished(out)
        assert {name: now.get(name) for name in before} == before  # Nothing finished was made again, or lost.
        before = now
    last = start(out, log, folder, "--resume", "--no-report")
    last.join()
    assert last.exitcode == 0
    now = finished(out)
    assert {name: now[name] for name in before} == before and len(now) == 8
    assert hidden(out) == []
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["counts"].keys() <= {"done", "kept"} and sum(summary["counts"].values()) == 8


def test_processes_may_share_a_folder(brightening, folder, tmp_path, out):
    logs = [tmp_path / name for name in "abc"]
    processes = [start(out, log, folder, "--resume", "--no-report") for log in logs]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    written = [line for log in logs for line in log.read_text().splitlines()]
    assert len(written) == len(set(written)) == 24 and len(finished(out)) == 8
    assert hidden(out) == []


def test_results_that_a_kill_left_half_renamed_are_put_in_place(brightening, folder, tmp_path, out, monkeypatch):
    import samplers.one_photo

    photo, renamed, replace = folder / "0.png", [], os.replace

    def die_after_the_first(source, target):
        replace(source, target)
        renamed.extend([target] if Path(target).parent == out else [])
        if len(renamed) == 1:
            os.kill(os.getpid(), signal.SIGKILL)

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", die_after_the_first)
        process = start(out, tmp_path / "log", photo)
        process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len([name for name in files(out) if not name.startswith(".")]) == 1
    monkeypatch.setattr(samplers.one_photo, "_restore", None)  # The work must not be needed again.
    again = start(out, tmp_path / "log", photo, "--resume")
    again.join()
    assert again.exitcode == 0 and files(out) == sorted(outputs("0.png"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_request_to_stop_leaves_what_is_finished_and_a_summary(
    brightening, folder, tmp_path, out, number, monkeypatch
):
    monkeypatch.setattr(Brightening, "delays", iter((0, 0, 300)))
    process = start(out, tmp_path / "log", folder, "--no-report")
    log = tmp_path / "log"
    while process.is_alive() and (not log.exists() or len(log.read_text().splitlines()) < 6):
        time.sleep(0.005)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 130 and hidden(out) == []
    assert (tmp_path / "log.errors").read_text() == "deblur.py: interrupted\n"
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["counts"]["done"] == len(finished(out)) and summary["counts"]["open"] > 0


def test_resuming_keeps_what_is_the_same_and_nothing_else(brightening, deblur, photo, codes, out):
    assert deblur(photo, "--method", "tv")[0] == 0
    before = {name: os.stat(out / name).st_ino for name in files(out)}
    assert deblur(photo, "--method", "tv", "--resume") == (0, [], [])
    assert deblur(photo, "--method", "tv", "--resume", "--overwrite") == (0, [], [])
    assert {name: os.stat(out / name).st_ino for name in files(out)} == before
    # Another parameter, another content, a changed result: not what this command would make.
    fails(deblur(photo, "--method", "tv", "--resume", "--psf", "gaussian"), 3, photo, "--overwrite")
    Image.fromarray(codes[::-1]).save(photo)
    fails(deblur(photo, "--method", "tv", "--resume"), 3, photo, "--overwrite")
    assert len(deblur(photo, "--method", "tv", "--resume", "--overwrite")[1]) == len(outputs("cat.png"))
    # Of all that was written.
    for name in outputs("cat.png"):
        before = (out / name).read_bytes()
        if name.endswith("_defocus.tif"):
            write_map(out / name, read_map(out / name) + 1)
        else:
            (out / name).write_bytes(before + b"more")
        fails(deblur(photo, "--method", "tv", "--resume"), 3, photo, "--overwrite")
        (out / name).write_bytes(before)
    assert deblur(photo, "--method", "tv", "--resume") == (0, [], [])
    # A report that this command would not write may be that of another.
    assert deblur(photo, "--method", "tv", "--no-report", "--overwrite", "--strength", "0.5")[0] == 0
    assert deblur(photo, "--method", "tv", "--no-report", "--resume", "--strength", "0.5") == (0, [], [])
    fails(deblur(photo, "--method", "tv", "--resume", "--strength", "0.5"), 3, photo, "--overwrite")


def test_another_process_at_work_is_named(brightening, deblur, photo, out):
    from samplers.claims import claimed

    with claimed(out / "cat.png"):
        # A lock belongs to an open file: the second opening below is as good as that of another process.
        fails(deblur(photo, "--method", "tv"), 3, out / "cat.png", "only process")
        assert deblur(photo, "--method", "tv", "--resume") == (0, [], [])
    assert not out.exists()
    assert deblur(photo, "--method", "tv")[0] == 0


def test_a_refused_repetition_leaves_what_the_first_run_told(brightening, deblur, folder, out, capfd):
    assert deblur(folder, "--method", "tv")[0] == 0
    sheet = (out / "contact_sheet.html").read_bytes()
    summary = (out / "summary.json").read_bytes()
    code, printed, errors = deblur(folder, "--method", "tv")
    assert (code, printed, len(errors)) == (6, [], 8) and all("--overwrite" in error for error in errors)
    assert (out / "summary.json").read_bytes() == summary and (out / "contact_sheet.html").read_bytes() == sheet
    # With a photo that is new, the sheet shows it too; one whose result came from elsewhere has no other row.
    Image.open(folder / "0.png").save(folder / "8.png")
    Image.open(folder / "0.png").save(folder / "9.png")
    (out / "9.png").write_bytes(b"mine")
    assert deblur(folder, "--method", "tv")[0] == 6
    assert (out / "contact_sheet.html").read_text("utf-8").count("8.png") > 1
    counts = json.loads((out / "summary.json").read_text("utf-8"))["counts"]
    assert counts == {"done": 9, "exists": 1} and (out / "9.png").read_bytes() == b"mine"


def test_photos_that_were_not_begun_keep_what_is_told_of_them(tmp_path):
    rows = [Row("a.png", "done", facts={"evaluations": 9}), Row("b.png", "done", facts={"evaluations": 5})]
    write_summary(tmp_path, rows, {})
    write_summary(tmp_path, [Row("c.png", "open"), Row("b.png", "open"), Row("a.png", "failed", code=3)], {})
    told = {row["photo"]: row for row in json.loads((tmp_path / "summary.json").read_text("utf-8"))["photos"]}
    assert [(name, row["status"]) for name, row in told.items()] == [
        ("a.png", "failed"), ("b.png", "done"), ("c.png", "open")
    ]  # fmt: skip
    assert told["b.png"]["facts"] == {"evaluations": 5}


def test_the_summary_says_what_became_of_each_photo(brightening, deblur, folder, out, capfd):
    (folder / "text.jpg").write_text("no photo")
    assert deblur(folder, "--method", "tv", "--no-report")[0] == 6
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    assert summary["counts"] == {"done": 8, "failed": 1}
    assert summary["parameters"]["arguments"] == ["--method", "tv"]
    rows = {row["photo"].rpartition("/")[2]: row for row in summary["photos"]}
    assert rows["text.jpg"]["code"] == 3 and "no photo" not in rows["text.jpg"]["error"]
    assert rows["3.webp"]["outputs"] == ["deep/3.webp", "deep/3.webp_defocus.tif", "deep/3.webp_confidence.tif"]
    assert (rows["3.webp"]["facts"]["width"], rows["3.webp"]["facts"]["height"]) == (56, 33)
    # A later run of other photos adds to it; one file of that name that is something else stays.
    Image.open(folder / "0.png").save(folder / "8.png")
    Image.open(folder / "0.png").save(folder / "9.png")
    assert deblur(folder / "8.png", folder / "9.png", "--method", "tv")[0] == 0
    assert json.loads((out / "summary.json").read_text("utf-8"))["counts"] == {"done": 10, "failed": 1}
    (out / "summary.json").write_text("mine")
    code, _, errors = deblur(folder / "8.png", folder / "9.png", "--method", "tv", "--overwrite")
    assert code == 6 and len(errors) == 1 and "summary.json" in errors[0]
    assert (out / "summary.json").read_text() == "mine"


def test_the_table_lists_every_photo(brightening, folder, out, capfd):
    from samplers.deblur import main

    assert main([str(folder), "-o", str(out), "--method", "tv", "--no-report"]) == 0
    lines = capfd.readouterr()[1].splitlines()
    assert lines[-1].startswith("8 photos: 8 done; ")
    assert lines[-10].split() == ["photo", "status", "size", "evaluations", "mean", "radius", "seconds"]
    assert sum("56 x 3" in line for line in lines[-9:-1]) == 8


def test_odd_names_and_links(brightening, deblur, photo, tmp_path, out):
    names = ["a b.png", "new\nline.png", "ü日本.png", "-o.png", "%s{}$a.png", "n" * 100 + ".png"]
    names.append(os.fsdecode(b"\xff.png"))  # No text in any encoding of today.
    folder = tmp_path / "odd"
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(photo.read_bytes())
    os.symlink(photo, folder / "link.png")
    os.symlink(tmp_path / "nowhere", folder / "dangling.png")
    os.symlink(folder, folder / "loop")
    code, _, errors = deblur(folder, "--method", "tv", "--quiet")
    # The link that leads nowhere is named, and stops no other.
    assert code == 6 and len(errors) == 1 and str(folder / "dangling.png") in errors[0]
    expected = [output for name in [*names, "link.png"] for output in outputs(name)]
    assert files(out) == sorted([*expected, "contact_sheet.html", "summary.json"])
    os.unlink(folder / "dangling.png")
    assert deblur(folder, "--method", "tv", "--resume") == (0, [], [])


def test_a_mask_that_does_not_fit_a_page_names_the_page(brightening, deblur, codes, tmp_path, out):
    with tifffile.TiffWriter(tmp_path / "stack.tif") as file:
        for page in (codes, codes[:20]):
            file.write(page, metadata=None)
    Image.new("L", codes.shape[1::-1], 255).save(tmp_path / "mask.png")
    result = deblur(tmp_path / "stack.tif", "--method", "tv", "--mask", tmp_path / "mask.png")
    fails(result, 2, tmp_path / "mask.png", "on page 2 of 2")
    assert not out.exists()


@pytest.mark.parametrize("name", ["stack.tif", "stack.lsm", "stack.png"])
def test_a_stack_becomes_stacks(brightening, deblur, codes, tmp_path, out, name):
    stack = np.stack([codes[..., 0], codes[..., 1], codes[..., 2]]).astype(np.uint16) * 16
    tifffile.imwrite(tmp_path / name, stack, photometric="minisblack", metadata=None)
    assert deblur(tmp_path / name, "--method", "tv", "--range", "0,4095")[0] == 0
    assert files(out) == sorted(outputs(name))
    after, maps = tifffile.imread(out / name), tifffile.imread(out / f"{name}_defocus.tif")
    assert after.dtype == np.uint16 and after.shape == maps.shape == stack.shape
    alone = []
    for number, page in enumerate(stack):
        tifffile.imwrite(tmp_path / f"{number}.tif", page, metadata=None)
        assert deblur(tmp_path / f"{number}.tif", "--method", "tv", "--range", "0,4095")[0] == 0
        alone.append(tifffile.imread(out / f"{number}.tif"))
    np.testing.assert_array_equal(after, np.stack(alone))
    assert "2 of 3" in (out / f"{name}_report.html").read_text("utf-8")
    assert deblur(tmp_path / name, "--method", "tv", "--range", "0,4095", "--resume") == (0, [], [])
