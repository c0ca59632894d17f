"""Random settings, saved pipelines and command lines end in a result or a sentence, and leave nothing behind."""

import json
import random
import shutil

import pytest
from command_line import files
from mutations import CASES, mutated, without_hanging
from PIL import Image

import samplers.deblur
from samplers.config import ConfigError, load_config
from samplers.settings import SamplerSettings
from samplers.weights import WeightsError, checked_folder

VALUES = (
    "0", "-1", "1", "2", "3.5", "1e400", "nan", "inf", "-inf", "null", "true", "", "[]", "{}", "a", "'", '"', "{a: b}",
    "${steps}", "${oc.env:HOME}", "!!python/object/apply:os.system [ls]", "*", "&a", "1,2", "0x10", "日本", "\0",
)  # fmt: skip
CODES = {0, 1, 2, 3, 4, 5, 6}


def test_random_settings(tmp_path):
    draw, file = random.Random(0), tmp_path / "a.yaml"
    keys = [*SamplerSettings.__dataclass_fields__, "stps", "", "a.b", "steps.x", "."]
    content = b"steps: 10\nrho: 2.0\nprecision: fp32\n"
    for case in range(max(CASES // 2, 200)):
        overrides = [f"{draw.choice(keys)}={draw.choice(VALUES)}" for _ in range(draw.randint(0, 3))]
        file.write_bytes(mutated(content, draw))
        with without_hanging():
            try:
                settings = load_config(SamplerSettings, file if case % 2 else None, overrides)
                assert isinstance(settings, SamplerSettings)
            except ConfigError as error:
                assert "\n" not in str(error) and len(str(error)) < 1000, str(error)


def test_damaged_pipelines(saved_pipeline, tmp_path):
    draw = random.Random(1)
    parts = [file.relative_to(saved_pipeline) for file in saved_pipeline.rglob("*") if file.is_file()]
    folder = tmp_path / "weights"
    for case in range(max(CASES // 20, 20)):
        shutil.copytree(saved_pipeline, folder)
        file = folder / parts[case % len(parts)]
        if file.suffix == ".json" and draw.random() < 0.5:
            config = json.loads(file.read_text())
            config[draw.choice([*config, "new"])] = draw.choice((None, -1, 0, 1e9, "a", [], [1, "a"], {"a": 1}, True))
            file.write_text(json.dumps(config))
        else:
            file.write_bytes(mutated(file.read_bytes(), draw))
        with without_hanging():
            try:
                checked_folder(folder)
            except WeightsError as error:
                assert str(folder) in str(error) and "\n" not in str(error), str(error)
        shutil.rmtree(folder)


@pytest.fixture
def without_method(monkeypatch):
    """Valid commands end where the work would begin, with the result of doing nothing."""
    import torch

    from samplers.posterior_samples import SampledRestoration

    class Nothing:
        def __init__(self, method):
            self.count = getattr(method, "count", 2)

        def __call__(self, image, radius_map, callback=None, confidence=None):
            restored = SampledRestoration(image, *self.estimate_map(image), 0.01, 0)
            return restored.of([image] * self.count)

        def estimate_map(self, image):
            return torch.zeros(2, 1, 1, *image.shape[-2:]).unbind()

    made = samplers.deblur.make_method

    def make(*given):
        method, *others = made(*given)
        return Nothing(method), *others

    monkeypatch.setattr(samplers.deblur, "make_method", make)


def test_random_commands(without_method, saved_pipeline, codes, tmp_path, capfd, monkeypatch):
    draw, out = random.Random(2), tmp_path / "out"
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    Image.fromarray(codes).save(tmp_path / "in" / "a.png")
    Image.fromarray(codes[:20]).save(tmp_path / "in" / "b.jpg")
    (tmp_path / "in" / "c.png").write_bytes(b"none")
    flags = [action for action in samplers.deblur.command_parser()._actions if action.option_strings]
    flags = [action for action in flags if action.dest not in ("help", "output", "dry_run", "show_parameters")]
    for _ in range(max(CASES // 10, 40)):
        words = [draw.choice(("in", "in/a.png", "in/b.jpg", "in/c.png", "gone.jpg")) for _ in range(draw.randint(0, 2))]
        words += ["-o", "out"] * (draw.random() < 0.95) + ["--weights", str(saved_pipeline)] * (draw.random() < 0.7)
        for action in draw.sample(flags, draw.choice((0, 1, 1, 2, 4))):
            words.append(action.option_strings[-1])
            if action.nargs != 0:
                words.append(str(draw.choice([*(action.choices or ()), *VALUES, "in/a.png", "0.01", "4", "in"])))
        words += [f"{draw.choice(('steps', 'tile', 'stps'))}={draw.choice(VALUES)}"] * (draw.random() < 0.2)
        with without_hanging():
            try:
                code = samplers.deblur.main(words)
            except SystemExit as error:
                code = error.code
        _, errors = capfd.readouterr()
        assert code in CODES and "Traceback" not in errors, (words, errors)
        assert not [name for name in files(out) if "/." in f"/{name}"], words
        shutil.rmtree(out, ignore_errors=True)
