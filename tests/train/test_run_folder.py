"""One run a folder; the lock of a dead process locks nothing."""

import subprocess
import sys

import pytest

from sciml.train._run_folder import run_lock, write_settings

_HOLD = """
import os, signal, sys
from pathlib import Path
from sciml.train._run_folder import run_lock
with run_lock(Path(sys.argv[1])):
    print("locked", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP if sys.argv[2] == "wait" else signal.SIGKILL)
"""


def _nested(folder):
    with run_lock(folder), run_lock(folder):
        pass


def test_a_second_run_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match=r"another training run is using .*\(process \d+ on"):
        _nested(tmp_path / "run")
    with run_lock(tmp_path / "run"):
        pass


def test_another_process_and_its_death(tmp_path):
    command = [sys.executable, "-c", _HOLD, str(tmp_path), "wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "locked\n"
        with pytest.raises(RuntimeError, match=rf"process {process.pid} on"), run_lock(tmp_path):
            pass
        process.kill()
    with run_lock(tmp_path):  # its file is still there
        assert (tmp_path / ".lock").exists()


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="is a file"), run_lock(tmp_path / "run"):
        pass


@pytest.mark.parametrize("value", [{1, 2}, float("nan"), object()])
def test_settings_must_be_json(tmp_path, value):
    with pytest.raises(TypeError, match="`config` must hold JSON values only"):
        write_settings(tmp_path, {"config": {"a": value}})
    assert not (tmp_path / "config.json").exists()
