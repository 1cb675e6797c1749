"""The log: valid JSON lines, cut where a run is resumed, read back as columns."""

import json
import math

import numpy as np
import pytest

from sciml.train import read_metrics
from sciml.train._metrics import MetricsLog


def _write(path, *lines):
    path.write_text("".join(line + "\n" for line in lines))


def test_lines_and_columns(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl", 0)
    log.write({"step": 1, "loss": 0.5})
    log.write({"step": 1, "validation_loss": np.float32(0.25)})
    log.write({"step": 2, "loss": math.nan, "event": "stopped"})
    log.flush_to_disk()
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert lines[2] == {"step": 2, "loss": None, "event": "stopped"}
    for columns in (log.history(), read_metrics(tmp_path)):
        assert set(columns) == {"loss", "validation_loss"}
        steps, loss = columns["loss"]
        assert steps.tolist() == [1, 2]
        assert loss[0] == 0.5
        assert np.isnan(loss[1])


def test_lines_after_the_checkpoint_and_torn_lines_are_cut(tmp_path):
    path = tmp_path / "metrics.jsonl"
    _write(path, *(json.dumps({"step": s, "loss": s / 8}) for s in range(1, 7)))
    log = MetricsLog(path, 4)
    assert log.history()["loss"][0].tolist() == [1, 2, 3, 4]
    log.write({"step": 5, "loss": 9.0})
    assert read_metrics(path)["loss"][1].tolist() == [0.125, 0.25, 0.375, 0.5, 9.0]

    with path.open("a") as stream:
        stream.write('{"step": 6, "lo')
    assert read_metrics(path)["loss"][0].tolist() == [1, 2, 3, 4, 5]
    MetricsLog(path, 6)
    assert path.read_text().endswith('"loss": 9.0}\n')


def test_without_a_file():
    log = MetricsLog(None, 0)
    log.write({"step": 1, "loss": 0.5})
    log.flush_to_disk()
    assert log.history()["loss"][1].tolist() == [0.5]


def test_refusals(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no log"):
        read_metrics(tmp_path)
    _write(tmp_path / "metrics.jsonl", "<html>", '{"step": 1}')
    with pytest.raises(ValueError, match="line 1 is not a line of a training log"):
        read_metrics(tmp_path)
    for line in ("[" * 10**5, json.dumps({"step": 10**30}), json.dumps({"step": 1, "x": 10**400})):
        _write(tmp_path / "metrics.jsonl", line, '{"step": 1}')
        with pytest.raises(ValueError, match="line 1 is not a line of a training log"):
            read_metrics(tmp_path)
