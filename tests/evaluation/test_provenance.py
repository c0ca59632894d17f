"""What figures are said to be computed with."""

import subprocess

import pytest
import torch

from evaluation import provenance


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A repository of one file, which takes the place of the project."""
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation" / "provenance.py").write_text("first")
    identity = ("-c", "user.name=nobody", "-c", "user.email=nobody@example.org")
    for command in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "evaluation" / "provenance.py"))
    return tmp_path


def test_a_commit_is_dirty_by_what_git_tracks_alone(project):
    def git():
        return provenance.provenance(None, torch.device("cpu"))["git"]

    clean = git()
    assert len(clean["commit"]) == 40 and clean["dirty"] is False
    (project / "results").mkdir()
    (project / "results" / "run.json").write_text("{}")
    assert git() == clean
    (project / "evaluation" / "provenance.py").write_text("second")
    assert git() == clean | {"dirty": True}
