"""Every name of a method leads to its maker."""

import pytest
import torch

from evaluation.methods import METHODS, MethodUnavailable


@pytest.mark.parametrize("name", METHODS)
def test_every_method_can_be_made(name, tiny):
    try:
        method = METHODS[name](tiny, torch.device("cpu"))
    except MethodUnavailable as error:
        # What needs a package that is not installed says which.
        assert str(error)
    else:
        assert isinstance(method.takes_map, bool)


@pytest.mark.parametrize(("name", "steps"), [("dps", 50), ("dps-100", 100), ("diffpir-10", 10), ("diffpir-40", 40)])
def test_a_number_is_that_of_the_steps(name, steps, tiny):
    pytest.importorskip("deepinv")
    assert METHODS[name](tiny, torch.device("cpu")).steps == steps
