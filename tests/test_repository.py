"""The repository as a whole: sizes, packaging, scripts that answer at once."""

import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatch
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]
SCRIPTS = sorted(
    str(file.relative_to(PROJECT))
    for folder in ("samplers", "train", "evaluation")
    for file in (PROJECT / folder).glob("*.py")
    if '__name__ == "__main__"' in file.read_text(encoding="utf-8")
)


def _tracked():
    """Files under version control, or, where there is none, all files of a source tree."""
    listed = subprocess.run(["git", "-C", str(PROJECT), "ls-files", "-z"], capture_output=True, text=True)
    if listed.returncode:
        return [file for file in PROJECT.rglob("*") if file.is_file() and ".venv" not in file.parts]
    return [file for name in listed.stdout.split("\0") if name and (file := PROJECT / name).exists()]


def test_no_large_files():
    large = [f"{file.relative_to(PROJECT)} ({file.stat().st_size})" for file in _tracked()
             if file.stat().st_size > 10_000_000]  # fmt: skip
    assert not large


def test_packages_exist_and_are_all_installed():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["packages"]["find"]["include"]
    packages = [file.parent.name for file in PROJECT.glob("*/__init__.py")]
    for pattern in patterns:
        assert any(fnmatch(package, pattern) for package in packages), pattern
    for file in PROJECT.rglob("*/__init__.py"):
        parts = file.relative_to(PROJECT).parts[:-1]
        if parts[0] in (".venv", "build", "tests"):
            continue
        assert any(fnmatch(".".join(parts), pattern) for pattern in patterns), file
        # A package inside a package is found only if every folder on the way is one.
        assert all((PROJECT.joinpath(*parts[:depth]) / "__init__.py").is_file() for depth in range(1, len(parts)))


def test_tests_are_installed_with_what_streams_need():
    # Their tests skip where it is missing.
    extras = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert extras["stream"] and set(extras["stream"]) <= set(extras["test"])
    locked = (PROJECT / "requirements.lock").read_text()
    assert all(f"\n{requirement.partition('>')[0]}==" in locked for requirement in extras["stream"])


def test_every_folder_of_modules_is_a_package():
    for file in _tracked():
        parts = file.relative_to(PROJECT).parts
        if file.suffix == ".py" and len(parts) > 1 and parts[0] != "tests":
            assert (file.parent / "__init__.py").is_file(), file


def test_scripts_live_in_three_folders():
    assert {"samplers/deblur.py", "train/score.py", "evaluation/benchmark.py"} <= set(SCRIPTS)
    for file in _tracked():
        parts = file.relative_to(PROJECT).parts
        # What scripts share of their command lines is in a module of that name.
        code = file.suffix == ".py" and parts[0] != "tests" and file.name != "command_line.py"
        if code and "/".join(parts) not in SCRIPTS:
            assert "argparse" not in file.read_text(encoding="utf-8"), file


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_answers_without_slow_imports(script, tmp_path):
    # Run as the interpreter would run it, from elsewhere, and look at what had been imported by the end.
    program = (
        "import atexit, runpy, sys\n"
        f"sys.argv = [{script!r}, '--help']\n"
        f"sys.path[0] = {str((PROJECT / script).parent)!r}\n"
        "slow = ('torch', 'diffusers', 'scipy', 'accelerate', 'wandb', 'lpips', 'omegaconf', 'gradio')\n"
        "report = lambda: print('imported:', *[name for name in slow if name in sys.modules], file=sys.stderr)\n"
        "atexit.register(report)\n"
        f"runpy.run_path({str(PROJECT / script)!r}, run_name='__main__')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout
    assert done.stderr.splitlines()[-1] == "imported:"


def test_errors_are_printed_in_one_place():
    for script in SCRIPTS:
        text = (PROJECT / script).read_text(encoding="utf-8")
        assert "ArgumentParser(" not in text and not re.search(r"print\(f?\"[^\"]*\{error", text), script


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_usage_error_is_one_line(script, tmp_path):
    command = [sys.executable, str(PROJECT / script), "--no-such-option"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    name = Path(script).name
    assert done.returncode == 2 and done.stdout == ""
    assert len(done.stderr.splitlines()) == 1 and re.match(rf"(\w+/)?{name}: ", done.stderr), done.stderr
