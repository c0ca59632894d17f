import socket
from pathlib import Path
from urllib.request import urlopen

import numpy as np
import pytest
import tifffile
from PIL import Image

pytest.importorskip("gradio", reason="needs the extra demo")


@pytest.fixture
def client(saved_pipeline, tmp_path, monkeypatch):
    """A page that is served, and a program in place of its visitor."""
    from gradio_client import Client

    from samplers.demo_page import Desk, serve

    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "cache"))
    (tmp_path / "room").mkdir()
    desk = Desk(tmp_path / "room", str(saved_pipeline), "cpu")
    page, address = serve(desk)
    client = Client(address, verbose=False, download_files=str(tmp_path / "taken home"))
    yield client
    client.close()
    desk.close()
    page.close()


def test_a_photo_goes_through_the_page_and_errors_are_sentences(client, codes, tmp_path):
    from gradio_client import handle_file
    from gradio_client.exceptions import AppError

    tifffile.imwrite(tmp_path / "deep.tif", codes.astype(np.uint16) * 257 + 3, photometric="rgb")
    layer = np.zeros((40, 56, 4), np.uint8)
    layer[:, 28:] = 255, 64, 0, 128
    Image.fromarray(layer).save(tmp_path / "layer.png")
    Image.fromarray(codes).save(tmp_path / "background.png")
    background = handle_file(str(tmp_path / "background.png"))
    painted = {"background": background, "layers": [handle_file(str(tmp_path / "layer.png"))], "composite": background}

    def restore(photo, preset="fast"):
        return client.predict(handle_file(str(photo)), painted, preset, 1, 0, api_name="/restore")

    compared, overlay, results, said = restore(tmp_path / "deep.tif")
    names = {Path(file).name: Path(file) for file in results}
    assert set(names) == {"deep.tif", *(f"deep.tif_{end}" for end in (
        "defocus.tif", "confidence.tif", "overlay.png", "report.html", "mask.png"
    ))}  # fmt: skip
    after = tifffile.imread(names["deep.tif"])
    assert after.dtype == np.uint16 and len(np.unique(after % 257)) > 10
    # Half-transparent paint counts in full: what is painted is restored, and nothing else is.
    assert np.array_equal(np.asarray(Image.open(names["deep.tif_mask.png"]))[0], np.repeat([0, 255], 28))
    assert np.array_equal(after[:, :28], codes[:, :28].astype(np.uint16) * 257 + 3)
    assert "--preset fast --mask deep.tif_mask.png" in said

    (tmp_path / "text.jpg").write_text("Dear reader")
    with pytest.raises(AppError, match=r"^text\.jpg: expected a JPEG, PNG, .* got another kind of file$"):
        restore(tmp_path / "text.jpg")


def test_browsers_are_told_to_load_nothing_from_elsewhere(client):
    with urlopen(client.src) as answer:
        page = answer.read().decode()
        policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'self' ") and "http" not in policy
    assert "fonts.googleapis.com" not in page and '"analytics_enabled":false' in page.replace(" ", "")


def test_an_address_that_is_taken_is_refused_in_a_sentence(monkeypatch, capsys):
    from samplers.demo import main

    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED"):
        monkeypatch.setenv(name, "")  # For the script sets them.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        for words in (["--port", str(taken.getsockname()[1])], ["--host", "a..b"], ["--host", "ä" * 70]):
            assert main(words) == 2
            output, errors = capsys.readouterr()
            assert output == "" and len(errors.splitlines()) == 1 and "expected an address" in errors
