"""Who may know whom: the imports of every module, read from its source."""

import ast
import sys
from importlib import metadata
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[1]

MAY_KNOW = {
    "photos": set(),
    "optics": set(),
    "diffusion": set(),
    "restorers": {"optics", "diffusion"},
    "samplers": {"photos", "optics", "diffusion", "restorers"},
    "evaluation": {"photos", "optics", "diffusion", "restorers", "samplers"},
    "train": {"photos", "optics", "diffusion", "restorers", "samplers", "evaluation"},
}

# Where a package of others may be imported; elsewhere it must not be needed.
ONLY_IN = {
    "wandb": ("train/",),
    "wandb_workspaces": ("train/",),
    # Scripts that split a batch over devices, or shrink tiles where memory runs out, may ask Accelerate.
    "accelerate": (
        "train/", "evaluation/benchmark.py",
        *(f"samplers/{name}.py" for name in ("deblur", "batch", "restoring", "one_photo")),
    ),
    "lpips": ("evaluation/metrics/",),
    "gradio": ("samplers/demo.py", "samplers/demo_page.py"),
    # Where learned models are defined, saved and loaded.
    "diffusers": (
        "diffusion/", "optics/defocus_map/network.py", "samplers/pipeline.py", "samplers/weights.py", "train/",
    ),  # fmt: skip
}

SCRIPT_FOLDERS = ("samplers", "train", "evaluation")
MODULES = sorted(file for package in MAY_KNOW for file in (PROJECT / package).rglob("*.py"))


def _imports(file):
    """Top-level names of everything a module imports, at its head or later."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            # A relative import stays inside its package.
            yield node.module.split(".")[0] if node.level == 0 else file.relative_to(PROJECT).parts[0]
        elif isinstance(node, ast.Call) and _called(node) in ("import_module", "__import__") and node.args:
            name = node.args[0]
            text = name.values[0] if isinstance(name, ast.JoinedStr) else name
            if isinstance(text, ast.Constant):
                yield str(text.value).split(".")[0]


def _called(node):
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def _id(file):
    return str(file.relative_to(PROJECT))


def test_every_package_has_its_place():
    packages = {file.parent.name for file in PROJECT.glob("*/__init__.py")}
    assert packages == set(MAY_KNOW)
    assert len(MODULES) > 30


@pytest.mark.parametrize("file", MODULES, ids=_id)
def test_module_knows_only_what_it_may(file):
    package = file.relative_to(PROJECT).parts[0]
    names = set(_imports(file))
    forbidden = names & (set(MAY_KNOW) | {"tests", "oracles", "training_runs"}) - MAY_KNOW[package] - {package}
    assert not forbidden, f"{_id(file)} must not know {', '.join(forbidden)}"
    for name, places in ONLY_IN.items():
        assert name not in names or _id(file).startswith(places), f"{_id(file)} must not import {name}"


def test_the_walk_finds_every_kind_of_import(tmp_path):
    source = "import a.b, c\nfrom d.e import f\ndef g():\n    import h\n    importlib.import_module('i.j')\n"
    file = PROJECT / "optics" / "psf.py"
    tree = tmp_path / "module.py"
    tree.write_text(source)
    assert list(_imports(tree)) and set(_imports(tree)) == {"a", "c", "d", "h", "i"}
    assert {"torch", "numpy", "scipy", "math"} == set(_imports(file))


@pytest.mark.parametrize("folder", SCRIPT_FOLDERS)
def test_modules_beside_scripts_hide_no_other(folder):
    # The folder of a script is first on the path: a module in it hides the one of the same name elsewhere.
    ours = {path.stem for path in (PROJECT / folder).iterdir() if path.suffix == ".py" or path.is_dir()}
    installed = set(metadata.packages_distributions()) - set(MAY_KNOW)
    hidden = (ours - {"__init__", "__pycache__"}) & (set(sys.stdlib_module_names) | installed)
    # Folders that the interpreter leaves and packages of ours, installed or not, are no others.
    assert not hidden, f"{folder}/ hides {', '.join(sorted(hidden))}"


@pytest.mark.parametrize("file", MODULES, ids=_id)
def test_files_are_named_after_an_idea(file):
    assert file.stem not in {"utils", "util", "misc", "helpers", "helper", "common", "tools"}
