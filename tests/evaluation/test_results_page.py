"""Tables are written between the marks of a page, and the rest of the page stays."""

import json

import pytest

from evaluation import results_page

PAGE = "# Results\n\nBefore.\n\n<!-- begin one -->\nold\n<!-- end one -->\n\nAfter.\n"


@pytest.fixture
def file(tmp_path):
    from evaluation.results import SCHEMA_VERSION, summarise

    def row(column, value):
        figures = {"psnr": value, "ssim": 0.5}
        return {
            "set": "s", "group": "s", "name": "a", "column": column, "method": column, "map": None, "counted": True,
            "metrics": figures, "input": {"psnr": 20.0, "ssim": 0.5}, "equal": False, "input_equal": False,
            "other_focus": None, "input_other_focus": None, "seconds": 1.0, "peak_memory_mib": 9.0, "evaluations": 4,
            "pictures": None,
        }  # fmt: skip

    rows = [row("denoise", 20.0), row("score", 22.0)]
    settings = {
        "data": {"root": "/somewhere/Val", "protocol": "simulated", "sets": None, "split": "test", "count": 3,
                 "stride": 1},
        "methods": ["denoise", "score"], "map": "both", "weights": "weights/base", "preset": "balanced",
        "sampler": [], "lpips": "/there", "seed": 4, "device": "cpu", "out": "x", "overwrite": False, "pictures": True,
        "metrics": ["psnr", "ssim"],
    }  # fmt: skip
    results = {
        "schema_version": SCHEMA_VERSION, "protocol": {"description": "What."}, "seed": 4, "threads": 2,
        "device": "cpu", "versions": {"torch": "2"}, "git": {"commit": None, "dirty": None}, "settings": settings,
        "skipped": [{"method": "dps", "reason": "no package"}], "rows": rows,
        "metrics": {name: {"reason": None} for name in ("psnr", "ssim")}, "summary": summarise(rows, ("psnr", "ssim")),
    }  # fmt: skip
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    return path


def test_the_part_between_the_marks_is_replaced(file, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    for _ in range(2):
        assert results_page.main([str(page), f"one={file}"]) == 0
        text = page.read_text()
        assert text.startswith("# Results\n\nBefore.\n\n<!-- begin one -->\n```sh\n")
        assert text.endswith("<!-- end one -->\n\nAfter.\n") and "old" not in text
    assert "- `score` over `denoise`, relative: PSNR +10.0 % [+10.0, +10.0], SSIM +0.0 % [+0.0, +0.0]." in text
    assert "Not run: `dps`: no package." in text


def test_the_command_names_what_differs(file, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    results_page.main([str(page), f"one={file}"])
    (command,) = [line for line in page.read_text().splitlines() if line.startswith("python ")]
    assert command == (
        "python evaluation/benchmark.py configs/benchmark/simulated.yaml data.root=VAL data.count=3 "
        '"methods=[denoise,score]" "metrics=[psnr,ssim]" lpips=DIR "seed=4" out=results/simulated'
    )


def test_missing_marks_and_files_are_said(file, tmp_path, capsys):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    assert results_page.main([str(page), f"two={file}"]) == 1
    assert "begin two" in capsys.readouterr().err
    assert results_page.main([str(page), f"one={tmp_path / 'absent.json'}"]) == 1
    assert "absent.json" in capsys.readouterr().err
    assert page.read_text() == PAGE
    with pytest.raises(SystemExit) as stop:
        results_page.main([str(page), "one"])
    assert stop.value.code == 2


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {}}, "expected settings as the benchmark writes them"),
        ({"settings": None}, "expected settings as the benchmark writes them"),
        ({"summary": None}, "expected the part summary"),
        ({"git": {}}, "expected the part git"),
        ({"metrics": {"beauty": {"reason": None}}, "rows": [], "summary": []}, "got beauty"),
    ],
)
def test_damaged_results_are_one_sentence(file, tmp_path, capsys, change, words):
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    assert results_page.main([str(page), f"one={file}"]) == 1
    error = capsys.readouterr().err
    assert f"{file}: expected" in error and words in error and error.count("\n") == 1
    assert page.read_text() == PAGE


@pytest.mark.parametrize(("key", "value"), [("protocol", "other"), ("protocol", []), ("root", 3), ("stride", None)])
def test_settings_of_other_data_are_one_sentence(file, tmp_path, capsys, key, value):
    results = json.loads(file.read_text())
    results["settings"]["data"][key] = value
    if value is None:
        del results["settings"]["data"][key]
    file.write_text(json.dumps(results))
    (tmp_path / "page.md").write_text(PAGE)
    assert results_page.main([str(tmp_path / "page.md"), f"one={file}"]) == 1
    assert f"{file}: expected settings as the benchmark writes them, got others" in capsys.readouterr().err


@pytest.mark.parametrize(("content", "words"), [(None, "No such file"), (b"\xff\xfe", "it is not UTF-8")])
def test_a_page_that_cannot_be_read_is_named(file, tmp_path, capsys, content, words):
    page = tmp_path / "page.md"
    if content:
        page.write_bytes(content)
    assert results_page.main([str(page), f"one={file}"]) == 1
    error = capsys.readouterr().err
    assert f"{page}: expected a page of text, which cannot be read: " in error and words in error


def test_lines_end_as_they_did(file, tmp_path):
    pages = {}
    for line_end in ("\n", "\r\n"):
        page = tmp_path / "page.md"
        page.write_bytes(PAGE.replace("\n", line_end).encode())
        for _ in range(2):
            assert results_page.main([str(page), f"one={file}"]) == 0
        pages[line_end] = page.read_bytes()
    assert b"\r" not in pages["\n"] and pages["\n"].replace(b"\n", b"\r\n") == pages["\r\n"]
