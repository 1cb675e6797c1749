"""The entry point: help, exit statuses, one line for each failure, and what --debug adds."""

import subprocess
import sys
from pathlib import Path

import pytest

from sciml.cli import main
from sciml.cli._info import Info

ROOT = Path(__file__).parents[2]
COMMANDS = (
    (),
    ("demo",),
    ("train",),
    ("train", "sfno"),
    ("train", "fno3d"),
    ("train", "fno2d"),
    ("train", "t1"),
    ("predict",),
    ("refine",),
    ("solve",),
    ("data",),
    ("data", "generate"),
    ("data", "info"),
    ("data", "convert"),
    ("info",),
)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_explains_and_gives_examples(words, sciml):
    outcome = sciml(*words, "--help")
    assert outcome.status == 0
    usage = outcome.out.splitlines()[0]
    assert usage.startswith(" ".join(("usage: sciml", *words)))
    assert outcome.out.rpartition("╯")[2].count(" ".join(("  sciml", *words))) >= 1


def test_no_command_shows_the_help(sciml):
    assert sciml() == sciml("--help")


@pytest.mark.parametrize(
    "words",
    [
        ("fly",),
        ("train", "transformer"),
        ("train", "sfno", "--n-inputs", "3"),
        ("train", "sfno", "--steps", "many"),
        ("predict", "runs/demo"),
        ("data", "generate", "heat", "--out", "a.h5"),
        ("demo", "--seed"),
    ],
    ids=" ".join,
)
def test_usage_errors_have_status_2_and_no_traceback(words, sciml):
    outcome = sciml(*words)
    assert outcome.status == 2
    assert outcome.err
    assert "Traceback" not in outcome.err
    assert outcome.out == ""


def _raise(monkeypatch, error):
    def run(self):
        raise error

    monkeypatch.setattr(Info, "run", run)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (ValueError("two\n  lines"), 2, "two lines"),
        (FileNotFoundError("no such thing"), 2, "no such thing"),
        (PermissionError(13, "Permission denied", "x.h5"), 2, "x.h5: Permission denied"),
        (OSError(28, "No space left on device"), 1, "disk is full"),
        (RuntimeError("blew up"), 1, "blew up"),
        (ImportError("needs the extra"), 1, "needs the extra"),
        (MemoryError(), 1, "MemoryError"),
        (KeyError("lost"), 1, "unexpected KeyError: 'lost' (a defect of sciml"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_failures_are_one_line(error, status, words, sciml, monkeypatch):
    _raise(monkeypatch, error)
    outcome = sciml("info")
    assert outcome.status == status
    assert words in outcome.error


def test_interrupt_has_status_130_and_says_how_to_go_on(sciml, monkeypatch):
    _raise(monkeypatch, KeyboardInterrupt("Go on with: sciml info"))
    outcome = sciml("info")
    assert outcome.status == 130
    assert outcome.err == "sciml: interrupted. Go on with: sciml info\n"


def test_debug_shows_where(monkeypatch):
    _raise(monkeypatch, ValueError("why"))
    with pytest.raises(ValueError, match="why"):
        main(["info", "--debug"])
    monkeypatch.setenv("SCIML_DEBUG", "1")
    with pytest.raises(ValueError, match="why"):
        main(["info"])


def test_help_does_not_import_jax():
    program = (
        "import sys; from sciml.cli import main; main(['train', 'sfno', '--help']); "
        "sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr


def test_module_passes_the_status_on():
    command = [sys.executable, "-m", "sciml", "data", "info", "nowhere.h5"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 2
    assert done.stderr.startswith("sciml: error: no such file")
    assert done.stderr.count("\n") == 1
