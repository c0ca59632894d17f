"""Settings may stand before and after the options, on every command line that takes them."""

from importlib import import_module

import pytest

TRAININGS = ["score", "defocus_map", "latent_prior", "conditioning"]
OPTIONS = {name: ["--dry-run"] for name in TRAININGS} | {"throughput": ["--rounds", "3"], "trust": ["--count", "3"]}


@pytest.mark.parametrize("name", OPTIONS)
def test_settings_after_an_option_are_settings(name, tmp_path, capsys):
    (tmp_path / "settings.yaml").write_text("")
    first = [] if name == "trust" else [str(tmp_path / "settings.yaml")]
    words = [*first, "data.root=nowhere", *OPTIONS[name], "run.nonsense=1"]
    # The last word arrives, and is found to be unknown.
    assert import_module(f"train.{name}").main(words) == 2
    assert "unknown config key 'run.nonsense'" in capsys.readouterr().err


def test_settings_of_a_sweep_may_follow_an_option(tmp_path, capsys):
    file = tmp_path / "sweep.yaml"
    file.write_text("method: grid\nmetric: {name: loss}\nparameters: {optim.lr: {values: [0.1, 0.2]}}\n")
    assert import_module("train.sweep").main([str(file), f"run.dir={tmp_path}", "--dry-run", "data.root=photos"]) == 0
    assert all("data.root=photos" in line for line in capsys.readouterr().out.splitlines())
