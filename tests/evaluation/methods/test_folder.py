"""Results of other programs."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from evaluation.methods.folder import folder


def _save(path, value, size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


@pytest.fixture
def results(tmp_path):
    """Captures 1 to 4 of set and group s/g, each at another place, and a decoy where two are possible."""
    _save(tmp_path / "s" / "g" / "one.png", 1)
    _save(tmp_path / "s" / "one.png", 9)
    _save(tmp_path / "one.png", 9)
    _save(tmp_path / "s" / "two.tif", 2)
    _save(tmp_path / "three.PNG", 3)
    _save(tmp_path / "s" / "g" / "deep" / "f.2.8.png", 4)
    return tmp_path


def _code(image):
    codes = (255 * image).round().unique()
    assert len(codes) == 1
    return int(codes)


def test_results_are_found_at_every_place(results, varying, generator):
    method = folder(results)
    assert not method.takes_map
    for code, name in enumerate(["one", "two", "three", "deep/f.2.8"], start=1):
        restored = method(replace(varying, set_name="s", group="g", name=name), None, generator)
        assert _code(restored.image) == code
        assert restored.image.shape == varying.y.shape
        assert (restored.evaluations, restored.radius_map) == (0, None)


def test_all_missing_results_are_listed_at_once(results):
    method = folder(results)
    method.check([("s", "g", "one"), ("s", "h", "two")])
    wanted = [("s", "g", "one"), *(("s", "g", f"lost{number:02}") for number in range(13))]
    with pytest.raises(ValueError) as error:
        method.check(wanted)
    message = str(error.value)
    assert "14 captures" in message and "none of 13" in message and message.endswith("s/g/lost09 and 3 more")
    assert "s/g/lost00" in message and "one" not in message.split(":")[-1]


def test_a_result_of_another_size_is_refused(results, varying, generator):
    _save(results / "large.png", 5, (65, 64))
    with pytest.raises(ValueError, match=r"large\.png: expected a picture of 64 x 64 .* got 65 x 64"):
        folder(results)(replace(varying, name="large"), None, generator)


def test_two_results_of_one_name_are_refused(results):
    _save(results / "s" / "two.png", 5)
    with pytest.raises(ValueError, match="expected one result s/two, got two.png, two.tif"):
        folder(results).check([("s", "g", "two")])


def test_a_folder_without_results_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no such folder"):
        folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="expected photos"):
        folder(tmp_path)
