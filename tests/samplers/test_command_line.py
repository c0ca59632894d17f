"""What scripts share of their command lines."""

import pytest

from samplers.command_line import Parser, report_error


def test_an_error_is_one_line_and_names_are_kept_as_they_are(capsys):
    assert report_error("some.py", ValueError("a  name.jpg:\nexpected b,\r\ngot c"), 3) == 3
    assert capsys.readouterr() == ("", "some.py: a  name.jpg: expected b, got c\n")


def test_options_go_by_their_full_names_alone(capsys):
    parser = Parser(prog="some.py", description="First line.\n    Second, as it is laid out.")
    parser.add_argument("--strength")
    with pytest.raises(SystemExit) as exit_:
        parser.parse_args(["--stren", "1"])
    assert exit_.value.code == 2
    assert capsys.readouterr() == ("", "some.py: unrecognized arguments: --stren 1 (see --help)\n")
    assert "First line.\n    Second, as it is laid out." in parser.format_help()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["", "-o", "out"], "arguments"), (["a.png", "-o", ""], "-o"), (["a.png", "--output="], "--output"),
        (["a.png", "-o", "out", ""], "arguments"),
    ],
)  # fmt: skip
def test_an_empty_value_is_none(words, named, capsys):
    for parse in ("parse_args", "parse_intermixed_args"):
        parser = Parser(prog="some.py", description="")
        parser.add_argument("photos", nargs="+")
        parser.add_argument("-o", "--output")
        with pytest.raises(SystemExit) as exit_:
            getattr(parser, parse)(words)
        assert exit_.value.code == 2
        assert capsys.readouterr().err == f"some.py: {named}: expected a value, got an empty one (see --help)\n"
    assert parser.parse_intermixed_args(["a.png", "-o", "out", "rho="]).photos == ["a.png", "rho="]
