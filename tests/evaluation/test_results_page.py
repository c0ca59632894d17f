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
