"""What is shown of a run before it begins."""

import pytest

from stoker.cli.training_tables import options_as_dicts, show_guarantee, show_options, show_size
from stoker.train.planning import Guarantee, Option, Size

TWO = [
    Option("p4d.24xlarge", 2, "spot", 8.5, 1.2, 113.3, 1.133, "", "a100-40", 16, "us-east-1", 6.66),
    Option("p5.48xlarge", 1, "on-demand", 0.7, 0.0, None, None, "odd", "h100", 8, "us-west-2", None),
]


def test_options_are_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    show_options(TWO)

    assert [" ".join(line.split()) for line in capsys.readouterr().out.splitlines()] == [
        "machines GPUs capacity region time interruptions cost per million tokens",
        "2 x p4d.24xlarge 16 a100-40 spot us-east-1 8 h 30 min 1.2 $113.30 $1.13",
        "1 x p5.48xlarge 8 h100 on-demand us-west-2 42 min 0 - - odd",
    ]


def test_no_more_than_a_person_reads(capsys: pytest.CaptureFixture[str]) -> None:
    show_options(TWO, most=1)

    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 2
    assert said.err == "and 1 more; --json has all\n"
    show_options([])
    assert capsys.readouterr().out == "no machine of the catalogue holds it\n"
    assert options_as_dicts(TWO)[0]["usd"] == 113.3


def test_size_and_guarantee_are_sentences(capsys: pytest.CaptureFixture[str]) -> None:
    show_size(Size(8_030_261_248, 41_943_040, 503_316_480, 5e10))
    show_guarantee(Guarantee(True, 1.0, 105.0, "it holds"))
    show_guarantee(Guarantee(False, 200.0, 105.0, "it does not"))

    assert capsys.readouterr().out == (
        "8.0G parameters, of which 41.9M (0.522 %) are trained; a checkpoint has 503.3 MB\n"
        "at a spot notice: it holds\n"
        "WARNING: it does not\n"
    )
