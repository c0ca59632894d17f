"""Typed settings: YAML files of differences, overrides, and errors for the user."""

from dataclasses import asdict, dataclass, field
from pathlib import Path

import pytest
from omegaconf import MISSING, OmegaConf

from evaluation.settings import BenchmarkConfig
from samplers.config import ConfigError, file_and_overrides, load_config, write_config
from samplers.settings import SamplerSettings
from train.conditioning_config import ConditioningConfig
from train.config import ScoreConfig
from train.defocus_map_config import DefocusMapConfig
from train.latent_prior_config import LatentPriorConfig
from train.sweep_plan import read_sweep

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
SCHEMAS = {
    "deblur": SamplerSettings, "score": ScoreConfig, "defocus_map": DefocusMapConfig, "benchmark": BenchmarkConfig,
    "latent_prior": LatentPriorConfig, "conditioning": ConditioningConfig,
}  # fmt: skip


@dataclass
class Inner:
    rate: float = 0.5
    name: str = "plain"
    widths: list[int] = field(default_factory=lambda: [1, 2])

    def __post_init__(self):
        if self.rate < 0:
            raise ValueError(f"inner.rate must not be negative, got {self.rate}")


@dataclass
class Outer:
    root: str = MISSING
    count: int | None = 3
    inner: Inner = field(default_factory=Inner)


def _flat(config, prefix=""):
    for key, value in config.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


@pytest.mark.parametrize("file", sorted(CONFIGS.rglob("*.yaml")), ids=lambda f: str(f.relative_to(CONFIGS)))
def test_every_yaml_parses_and_repeats_no_default(file):
    kind = file.relative_to(CONFIGS).parts[0]
    if kind == "sweeps":
        read_sweep(file, count=2)
        return
    content = OmegaConf.to_container(OmegaConf.load(file))
    if kind == "accelerate":
        assert content["compute_environment"] == "LOCAL_MACHINE"
        return
    assert kind in SCHEMAS, f"no schema is known for configs/{kind}"
    required = [f"{key}=x" for key in OmegaConf.missing_keys(OmegaConf.structured(SCHEMAS[kind]))]
    # Photos that only some runs can do without.
    required += ["data.root=x"] if kind == "latent_prior" else []
    # A run that fine-tunes takes the network of the weights it starts from.
    required += ["init=x"] if file.name == "finetune.yaml" else []
    load_config(SCHEMAS[kind], file, required)
    defaults = dict(_flat(OmegaConf.to_container(OmegaConf.structured(SCHEMAS[kind]))))
    values = dict(_flat(content))
    repeated = [key for key, value in values.items() if key in defaults and defaults[key] == value]
    # The one that equals the defaults still has to say something.
    assert not repeated or len(values) == 1, f"{file.name} repeats the defaults of {', '.join(repeated)}"


def test_later_sources_win(tmp_path):
    file = tmp_path / "settings.yaml"
    file.write_text("root: a\ninner: {rate: 0.25, widths: [7]}\n")
    config = load_config(Outer, file, ["inner.rate=1e-3", "root=b", "inner.rate=2e-3"])
    assert config == Outer("b", 3, Inner(2e-3, "plain", [7]))
    assert type(config.inner) is Inner and type(config.inner.widths) is list
    assert load_config(Outer, None, ["root=a=b", "count=null", "inner.widths=[3,4]"]) == Outer(
        "a=b", None, Inner(widths=[3, 4])
    )


def test_defaults_are_not_shared():
    load_config(Outer, None, ["root=a"]).inner.widths.append(9)
    assert load_config(Outer, None, ["root=a"]).inner.widths == [1, 2]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["inner.rat=1"], ["'inner.rat'", "did you mean 'inner.rate'?"]),
        (["inner.zzz=1"], ["unknown config key 'inner.zzz'"]),
        (["rot=x"], ["'rot'", "did you mean 'root'?"]),
        (["qqqqqq=x"], ["known keys: root, count, inner"]),
        (["inner.rate=fast"], ["'inner.rate'", "fast"]),
        (["inner=5"], ["'inner'", "5"]),
        (["inner.widths=[1,a]"], ["config key 'inner.widths': ", "'a'"]),
        (["inner.widths=8"], ["config key 'inner.widths': expected a list, as [A,B], got 8"]),
        (["inner.rate=-1"], ["inner.rate must not be negative, got -1.0"]),
        ([], ["no value for root", "root=..."]),
        (["inner.rate"], ["expected an assignment key=value, got 'inner.rate'"]),
        (["--root=x"], ["expected an assignment key=value, got '--root=x'"]),
        (["=x"], ["config key ''"]),
        (["inner.rate=[1"], ["'inner.rate'", "'[1'"]),
    ],
)
def test_errors_name_the_key_and_what_was_expected(overrides, expected):
    given = overrides if not overrides or overrides[0].startswith(("root", "--")) else ["root=x", *overrides]
    with pytest.raises(ConfigError) as error:
        load_config(Outer, None, given)
    for part in expected:
        assert part in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("inner: {rat: 1}", "did you mean 'inner.rate'?"), ("- a\n- b", "got a list"), ("a: [1", "not a YAML file"),
        ("root: a\nroot: b", "not a YAML file"), ("\x00", "not a YAML file"),
        ("inner: {widths: 8}", "'inner.widths' (in "), ("inner: {widths: 8}", "expected a list, as [A,B]"),
    ],
)  # fmt: skip
def test_errors_in_files_name_the_file(tmp_path, content, expected):
    file = tmp_path / "settings.yaml"
    file.write_text(content)
    with pytest.raises(ConfigError) as error:
        load_config(Outer, file, ["root=x"])
    assert expected in str(error.value) and str(file) in str(error.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match="nowhere.yaml: No such file"):
        load_config(Outer, tmp_path / "nowhere.yaml")


def test_empty_file_leaves_the_defaults(tmp_path):
    file = tmp_path / "empty.yaml"
    file.write_text("# nothing differs\n")
    assert load_config(Outer, file, ["root=x"]) == Outer("x")


def test_written_settings_read_back(tmp_path):
    config = load_config(ScoreConfig, None, ["data.root=photos", "run.dir=runs/a", "optim.lr=3e-4"])
    write_config(config, tmp_path / "config.yaml")
    assert asdict(load_config(ScoreConfig, tmp_path / "config.yaml")) == asdict(config)
    assert list(tmp_path.iterdir()) == [tmp_path / "config.yaml"]


def test_a_table_for_a_list_is_refused(tmp_path):
    file = tmp_path / "a.yaml"
    file.write_text("trust: {a: b}\n")
    for given in ((None, ["trust={a: b}"]), (file, [])):
        with pytest.raises(ConfigError):
            load_config(SamplerSettings, *given)


def test_a_file_of_settings_may_stand_anywhere_among_assignments():
    for words in (["a.yaml", "b=1", "c=2"], ["b=1", "a.yaml", "c=2"], ["b=1", "c=2", "a.yaml"]):
        assert file_and_overrides(words) == ("a.yaml", ["b=1", "c=2"])
    assert file_and_overrides([None, "b=1"]) == (None, ["b=1"]) and file_and_overrides([None]) == (None, [])
    with pytest.raises(ConfigError, match="expected one file of settings, .* got a.yaml and d.yaml"):
        file_and_overrides(["a.yaml", "b=1", "d.yaml"])


def test_a_value_that_is_left_open_is_none(tmp_path):
    with pytest.raises(ConfigError, match=r"'name': expected a value, got \?\?\?"):
        load_config(Inner, overrides=["name=???"])
    file = tmp_path / "open.yaml"
    file.write_text("rate: ???\n")
    with pytest.raises(ConfigError, match=r"'rate' \(in .*open\.yaml\): expected a value, got \?\?\?"):
        load_config(Inner, file)
