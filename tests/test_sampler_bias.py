"""The documented bias of every method is what the methods have."""

import re
from pathlib import Path

import pytest
from sampler_bias import GUIDES, SOLVERS, TABLES, table_in

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "samplers.md").read_text("utf-8")


def _numbers(line):
    return [float(number) for number in re.findall(r"\| ([\d.]+)(?= \|)", line)]


@pytest.mark.parametrize("name", TABLES)
def test_the_tables_are_up_to_date(name):
    documented, measured = table_in(PAGE, name), list(TABLES[name]())
    assert len(documented) == len(measured) == 2 + len({"solvers": SOLVERS, "guides": GUIDES}[name])
    for was, now in zip(documented, measured, strict=True):
        assert was.split("|")[1] == now.split("|")[1]
        # A last digit may round otherwise on another machine.
        assert _numbers(was) == pytest.approx(_numbers(now), abs=0.011)


def test_methods_without_bias_have_none_and_others_do():
    rows = {line.split("|")[1].strip(): _numbers(line) for line in table_in(PAGE, "guides")[2:]}
    assert rows["moment matching"][1] < 0.08 and rows["moment matching"][2] == pytest.approx(1, abs=0.04)
    assert rows["PiGDM"][1] < rows["proximal"][1] < rows["DPS"][1] < rows["none"][1]
