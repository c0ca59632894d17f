import numpy as np
import skimage.data

from photos import read
from samplers.demo_photo import main


def test_the_photo_is_written_without_loss(tmp_path, capsys):
    assert main([str(tmp_path / "new" / "folder")]) == 0
    file = tmp_path / "new" / "folder" / "chelsea.png"
    assert capsys.readouterr().out == f"{file}\n"
    assert np.array_equal(np.rint(255 * read(file).pixels), skimage.data.chelsea())
