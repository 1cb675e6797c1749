"""Result files: their form, what is promised, and nothing that names the machine's owner."""

import getpass
import json
import math
import socket

import numpy as np
import pytest

from sciml.core import Target, machine, write_report

ROWS = [{"method": "SFNO", "relative_l2": np.float32(0.5), "seconds": math.inf}]


def test_file_has_the_agreed_form(tmp_path):
    target = Target("error of SFNO", 0.5, at_most=0.02)
    path = write_report(
        tmp_path / "new" / "results.json",
        command="sciml demo",
        rows=ROWS,
        targets=[target],
        settings={"seed": 7, "n_modes": (6, 6)},
    )
    report = json.loads(path.read_text())
    assert report["rows"] == [{"method": "SFNO", "relative_l2": 0.5, "seconds": None}]
    assert report["targets"] == [
        {"name": "error of SFNO", "goal": "<= 0.02", "value": 0.5, "holds": False}
    ]
    assert report["settings"] == {"seed": 7, "n_modes": [6, 6]}
    assert set(report["versions"]) >= {"sciml", "jax", "numpy", "python"}


def test_a_failed_write_keeps_the_old_file(tmp_path):
    path = write_report(tmp_path / "results.json", command="first", rows=[])
    with pytest.raises(TypeError):
        write_report(path, command="second", rows=[{"method": object()}])
    assert json.loads(path.read_text())["command"] == "first"
    assert [p.name for p in tmp_path.iterdir()] == ["results.json"]


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("benchmarks/x.py", "benchmarks/x.py"),
        ("{here}/benchmarks/x.py", "benchmarks/x.py"),
        ("/somewhere/else/x.py", "x.py"),
    ],
)
def test_the_command_is_that_of_the_process(tmp_path, monkeypatch, script, told):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [script.format(here=tmp_path), "--cases", "64 x 64"])
    report = json.loads(write_report("results.json", rows=[]).read_text())
    assert report["command"] == f"python {told} --cases '64 x 64'"


@pytest.mark.parametrize("value", [None, math.nan, math.inf])
def test_a_target_without_a_figure_does_not_hold(value):
    assert not Target("x", value, at_most=1.0).holds
    assert not Target("x", value, at_least=1.0).holds


def test_a_target_holds_on_its_bound():
    assert Target("x", 1.0, at_most=1.0).holds
    assert Target("x", 1.0, at_least=1.0).holds


@pytest.mark.parametrize("bounds", [{}, {"at_most": 1.0, "at_least": 0.0}])
def test_a_target_has_one_bound(bounds):
    with pytest.raises(ValueError, match="exactly one"):
        Target("x", 0.5, **bounds)


def test_machine_names_neither_host_nor_user():
    words = json.dumps(machine())
    for private in (socket.gethostname(), getpass.getuser()):
        assert len(private) < 5 or private not in words
