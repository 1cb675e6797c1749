"""SIGKILL at twenty random moments: no checkpoint is lost, and the end is equal to the last bit."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml

# A server that has imported everything and started no backend forks a child for each run: a child
# then trains within a fraction of a second.
_SERVER = """
import os, sys
sys.path.insert(0, sys.argv[1])
import test_kill as job
for line in sys.stdin:
    folder, n_steps, every = line.split()
    child = os.fork()
    if child == 0:
        job.train(folder, int(n_steps), int(every))
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
# More than any machine trains in the moments between the kills, so that each one hits a live run.
_N_STEPS = 1500


class Net(eqx.Module):
    first: jax.Array
    second: jax.Array

    def __init__(self, *, key):
        a, b = jax.random.split(key)
        self.first = jax.random.normal(a, (8, 2))
        self.second = jax.random.normal(b, (8,))


class Data:
    def __getitem__(self, step):
        return np.random.default_rng((55, step)).standard_normal((8, 2), np.float32)


def loss(model, batch, key):
    noisy = batch + 0.1 * jax.random.normal(key, batch.shape)
    forecast = jnp.tanh(noisy @ model.first.T) @ model.second
    return jnp.mean((forecast - batch[:, 0] * batch[:, 1]) ** 2)


def train(folder, n_steps, checkpoint_every):
    key = jax.random.key(83)
    sciml.train.fit(
        Net(key=key),
        Data(),
        loss=loss,
        optimizer=sciml.train.one_cycle_adam(1e-2, _N_STEPS),
        n_steps=n_steps,
        key=key,
        run_dir=folder,
        resume=True,
        checkpoint_every=checkpoint_every,
        log_every=1,
        progress=False,
    )


class _Server:
    def __init__(self, cache):
        environment = {
            **os.environ,
            "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
            "TF_CPP_MIN_LOG_LEVEL": "3",  # XLA doubts each program that it reads from the cache
        }
        command = [sys.executable, "-c", _SERVER, os.path.dirname(__file__)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def start(self, folder, checkpoint_every):
        self.process.stdin.write(f"{folder} {_N_STEPS} {checkpoint_every}\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline())

    def status(self):
        return int(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait(timeout=60)


@pytest.fixture
def server(tmp_path):
    server = _Server(tmp_path / "cache")
    yield server
    server.close()


def _step(folder):
    config = folder / "checkpoint" / "config.json"
    return json.loads(config.read_text())["training"]["step"] if config.exists() else 0


def _wait_for_progress(folder, since, limit=60.0):
    end = time.monotonic() + limit
    while _step(folder) <= since:
        assert time.monotonic() < end, f"training makes no progress beyond step {since}"
        time.sleep(0.002)


def test_twenty_kills(server, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    server.start(whole, 10_000)
    assert server.status() == 0

    # The server knows the class by another module name, so that it is passed as a structure.
    like = Net(key=jax.random.key(5))
    moments = random.Random(61)
    last = 0
    for kill in range(20):
        child = server.start(killed, 1)
        if kill % 5 == 4:  # while it starts, reads the checkpoint, compiles
            time.sleep(moments.uniform(0.0, 0.4))
        else:  # while it trains, which is writing a checkpoint most of the time
            _wait_for_progress(killed, last)
            time.sleep(moments.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        assert server.status() == -signal.SIGKILL
        step = _step(killed)
        assert step >= last
        last = step
        sciml.load(killed / "checkpoint", like=like)
    assert 16 <= last < _N_STEPS

    server.start(killed, 100)
    assert server.status() == 0
    ours = sciml.load(killed / "checkpoint", like=like)
    expected = sciml.load(whole / "checkpoint", like=like)
    assert np.array_equal(ours.first, expected.first)
    assert np.array_equal(ours.second, expected.second)
    assert _log(killed) == _log(whole)
    assert [line["step"] for line in _log(killed)] == list(range(1, _N_STEPS + 1))
    assert len(list((killed / "checkpoint").iterdir())) == 3  # no remains of the dead


def _log(folder):
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in ("step", "loss", "gradient_norm")} for line in lines]
