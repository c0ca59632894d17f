"""What the documentation tells readers to type, open or import exists, and the README's Python code runs."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from diffusion import VESDE, ScoreNetwork
from evaluation.settings import BenchmarkConfig
from photos import read
from samplers import DefocusDeblurPipeline
from samplers.config import load_config
from samplers.settings import PRESETS, SamplerSettings, preset_file
from train.config import ScoreConfig

PROJECT = Path(__file__).resolve().parents[1]
README = (PROJECT / "README.md").read_text("utf-8")
PAGES = [PROJECT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((PROJECT / "docs").glob("*.md"))
SCHEMAS = {
    "samplers/deblur.py": SamplerSettings, "train/score.py": ScoreConfig, "evaluation/benchmark.py": BenchmarkConfig,
}  # fmt: skip
SCRIPTS = (
    *SCHEMAS, "samplers/demo.py", "samplers/prior_samples.py", "evaluation/compare.py", "evaluation/check_set.py",
    "evaluation/denoising.py", "evaluation/cost.py",
)  # fmt: skip
ELSEWHERE = ("train/simulate.py", "train/blend.py")  # shown on other pages


def _name(page):
    return page.name


def _blocks(language):
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def _commands():
    """Every line of the README's shell blocks, split into words, without its comment."""
    lines = [line for block in _blocks("bash") for line in block.splitlines()]
    return [shlex.split(line, comments=True) for line in lines]


def _of_scripts():
    """Script and arguments of every command that runs one."""
    for words in _commands():
        for script in SCRIPTS:
            if script in words:
                yield script, words[words.index(script) + 1 :]


@pytest.fixture(scope="module")
def flags():
    """The options of each script, as its help names them."""
    found = {}
    for script in (*SCRIPTS, *ELSEWHERE):
        done = subprocess.run(
            [sys.executable, PROJECT / script, "--help"], capture_output=True, text=True, check=True, timeout=60
        )
        found[script] = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", done.stdout))
    return found


def test_the_readme_shows_every_script():
    assert {script for script, _ in _of_scripts()} == set(SCRIPTS)
    assert len(_blocks("python")) >= 1


@pytest.mark.parametrize("block", _blocks("python"))
def test_python_code_runs(block, tmp_path, monkeypatch):
    if (PROJECT / "weights" / "small" / "model_index.json").is_file():
        (tmp_path / "weights").symlink_to(PROJECT / "weights")
    else:
        network = ScoreNetwork(channels=(8, 8), blocks=1, embedding=16)
        DefocusDeblurPipeline(score_network=network, sde=VESDE()).save_pretrained(tmp_path / "weights" / "small")
    row, column = np.mgrid[0:48, 0:64]
    codes = np.rint(127.5 + 90 * np.stack([np.sin(row / 5), np.sin(column / 7), np.sin((row + column) / 3)], axis=2))
    Image.fromarray(codes.astype(np.uint8)).save(tmp_path / "photo.jpg", quality=95)
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    result = names["result"]
    assert result.image.shape == (1, 3, 48, 64)
    # What was written is what was restored: JPEG, coarse as it is, keeps the means of its blocks.
    written = torch.from_numpy(read("sharper.jpg").pixels).permute(2, 0, 1)[None]
    assert float((F.avg_pool2d(written, 16) - F.avg_pool2d(result.image, 16)).abs().mean()) < 0.02


def test_options_in_commands_exist(flags):
    for script, arguments in _of_scripts():
        used = {word.partition("=")[0] for word in arguments if re.match(r"--?[a-z]", word)}
        assert used <= flags[script], f"{script} has no {', '.join(used - flags[script])}"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_options_in_the_text_exist(page, flags):
    known = set().union(*flags.values())
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    used = {word for code in re.findall(r"`([^`\n]+)`", text) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", code)}
    assert used <= known, f"no script has {', '.join(used - known)}"


def test_settings_in_commands_exist():
    for script, arguments in _of_scripts():
        if script not in SCHEMAS:
            continue
        overrides = [word for word in arguments if re.match(r"[a-z][\w.]*=", word)]
        files = [PROJECT / word for word in arguments if word.endswith(".yaml")]
        load_config(SCHEMAS[script], files[0] if files else None, overrides)


def test_options_of_the_table_are_those_of_the_script(flags):
    table = README.split("| option | meaning |")[1].split("\n\n")[0]
    listed = {flag for flag in flags["samplers/deblur.py"] if flag.startswith("--")}
    assert set(re.findall(r"`(--[a-z-]+)`", table)) == listed - {"--help", "--output"}


def test_presets_and_defaults_are_as_stated():
    costs = [load_config(SamplerSettings, preset_file(name)).evaluations for name in PRESETS]
    assert "{}, {} or {} network evaluations".format(*costs) in README
    text, defaults = (PROJECT / "docs" / "architecture.md").read_text("utf-8"), SamplerSettings()
    assert f"tau = {defaults.noise_scale}, or {defaults.for_mixture().noise_scale:g} where" in text
    assert f"grid from {defaults.sigma_start} to {defaults.sigma_end}." in text
    assert (defaults.renoise, defaults.rho) == (1.0, 1.0)


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_make_targets_exist(page):
    targets = set(re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE))
    used = set(re.findall(r"(?:^|`|[A-Za-z/.] )make ([a-z]+)(?=`| |$)", _code(page.read_text("utf-8")), re.MULTILINE))
    assert used <= targets
    if page.name == "README.md":
        assert {"demo", "test"} <= used


def _code(text):
    """Shell blocks and inline code, a piece a line."""
    blocks = re.findall(r"^```bash\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    return "\n".join([*blocks, *re.findall(r"`([^`\n]+)`", text)])


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_files_that_are_named_exist(page):
    text = page.read_text("utf-8")
    folders = "photos|optics|diffusion|samplers|restorers|evaluation|train|tests|configs"
    named = re.findall(rf"(?<![\w/.])((?:{folders})/[\w/.-]*?\.(?:py|yaml)|(?:{folders})(?:/[a-z_]+)*/)(?![\w*])", text)
    assert named or page.name == "CHANGELOG.md"
    assert not [name for name in named if not (PROJECT / name).exists()]


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"(?<!!)\[[^\]]*\]\(([^)#]+)[^)]*\)", page.read_text("utf-8"))
    assert not [t for t in targets if "://" not in t and not (page.parent / t).exists()]


def test_the_largest_radii_are_those_of_the_estimators():
    from optics.defocus_map import EdgeEstimator
    from optics.defocus_map.network import DefocusMapNetwork
    from samplers.map_estimators import map_estimator

    line = re.search(r"^- The map estimators (.*?)\. Shrink", README, re.MULTILINE | re.DOTALL)[1]
    stated = [(re.findall(r"`([\w-]+)`", part), int(re.search(r"\d+", part)[0])) for part in line.split(";")]
    assert [names for names, _ in stated] == [["fused", "learned"], ["evidence", "edges", "tv", "tv-bank"]]
    fused = map_estimator("fused", DefocusMapNetwork(channels=(4, 6), blocks=(1, 1)))
    assert stated[0][1] == fused.learned.radii[-1]
    assert stated[1][1] == map_estimator("evidence", None).radii[-1] == EdgeEstimator().largest_radius
