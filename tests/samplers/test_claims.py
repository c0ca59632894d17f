"""The places where results are made: whoever holds one leaves nothing behind, whenever it is interrupted."""

import os
import shutil
from pathlib import Path

import pytest

from photos import PhotoError
from samplers.claims import BusyError, claimed

fcntl = pytest.importorskip("fcntl")


def _interrupt_after(monkeypatch, owner, name):
    """Lets the first call of a function do its work and then be interrupted."""
    really, calls = getattr(owner, name), []

    def interrupted(*arguments, **options):
        result = really(*arguments, **options)
        calls.append(name)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(owner, name, interrupted)
    return calls


@pytest.mark.parametrize(
    ("owner", "name"), [(Path, "mkdir"), (os, "open"), (fcntl, "flock"), (os.path, "samestat"), (shutil, "rmtree")]
)
def test_an_interrupt_at_any_step_leaves_nothing_and_frees_the_place(tmp_path, monkeypatch, owner, name):
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        calls = _interrupt_after(patch, owner, name)
        with pytest.raises(KeyboardInterrupt), claimed(out / "cat.png"):
            pass
        assert calls
    assert not out.exists()
    with claimed(out / "cat.png") as place:
        assert place.folder.is_dir()


def test_results_that_cannot_be_put_in_place_are_kept(tmp_path):
    place = tmp_path / ".cat.png.part"
    place.mkdir()
    (place / "cat.png").write_bytes(b"finished")
    (place / "whole").write_bytes(b"cat.png")
    (tmp_path / "cat.png").mkdir()
    with pytest.raises(PhotoError, match="cannot be put in place: Is a directory"), claimed(tmp_path / "cat.png"):
        pass
    assert (place / "cat.png").read_bytes() == b"finished"
    (tmp_path / "cat.png").rmdir()
    with claimed(tmp_path / "cat.png"):
        assert (tmp_path / "cat.png").read_bytes() == b"finished"
    assert not place.exists()


def test_an_interrupt_within_the_removal_leaves_nothing(tmp_path, monkeypatch):
    def half_done(folder, **options):
        monkeypatch.undo()
        (folder / "cat.png").unlink()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "out" / "cat.png") as place:
        (place.folder / "cat.png").touch()
        monkeypatch.setattr(shutil, "rmtree", half_done)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_another_holds_stays_when_a_claim_is_interrupted(tmp_path, monkeypatch):
    with claimed(tmp_path / "cat.png") as place:
        (place.folder / "cat.png").touch()
        with monkeypatch.context() as patch:
            _interrupt_after(patch, os, "open")
            with pytest.raises(KeyboardInterrupt), claimed(tmp_path / "cat.png"):
                pass
        assert (place.folder / "cat.png").exists()
        with pytest.raises(BusyError), claimed(tmp_path / "cat.png"):
            pass


def test_a_folder_that_goes_while_it_is_looked_at_is_made_again(tmp_path, monkeypatch):
    """`Path.mkdir` finds it in the way, then looks what it is, and then it is gone: another process has finished."""
    result, really, calls = tmp_path / "cat.png", os.mkdir, []

    def racing(path, *arguments, **options):
        calls.append(path)
        if len(calls) == 1:
            raise FileExistsError(path)
        really(path, *arguments, **options)

    monkeypatch.setattr(os, "mkdir", racing)
    with claimed(result) as place:
        assert place.folder.is_dir() and len(calls) == 2
    assert os.listdir(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error_and_no_endless_wait(tmp_path, monkeypatch):
    """Some file systems say of what they do not allow that it is not there."""

    def refuse(path, *arguments):
        raise FileNotFoundError(2, "No such file or directory", str(path))

    monkeypatch.setattr(os, "mkdir", refuse)
    with pytest.raises(PhotoError, match="cannot be written: No such file"), claimed(tmp_path / "cat.png"):
        pass


@pytest.mark.parametrize("link", [False, True])
def test_something_else_in_the_place_of_the_folder_is_an_error(tmp_path, link):
    with claimed(tmp_path / "cat.png") as place:
        folder = place.folder
    folder.symlink_to(tmp_path / "nowhere") if link else folder.write_text("mine")
    with pytest.raises(PhotoError, match="cannot be written"), claimed(tmp_path / "cat.png"):
        pass
    assert folder.is_symlink() if link else folder.read_text() == "mine"


def test_a_folder_that_is_a_link_to_nowhere_is_an_error_and_no_endless_wait(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(PhotoError, match="cannot be written"), claimed(tmp_path / "out" / "cat.png"):
        pass
