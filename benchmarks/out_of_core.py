"""Training on data that stay in their file, beside training on the same data in memory.

    python benchmarks/out_of_core.py            # a few minutes; 420 MB of temporary files
    python benchmarks/out_of_core.py --quick    # 20 MB and two turns; nothing is written

A small autoregressive FNO is trained by `fit` on random fields: in memory, out of core, and out of
core with the file thrown out of the page cache before every step, so that each batch comes from
the disk as it would from a file larger than the memory. Each is a process of its own; they take
turns of some steps, of which the first are left out (a thread that has rested has its batches
ready), and the medians over all steps are compared. Beside it the peak memory of each process and
the time until training can start: reading or opening the file with its checksums, and the figures
of the normaliser.
"""

import dataclasses
import multiprocessing
import os
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro

from sciml.core import Target, format_table, write_report
from sciml.data import FieldDataset, GaussianNormaliser, load, open_dataset, save_dataset
from sciml.neural_operators import AutoregressiveFNO
from sciml.train import fit, one_cycle_adam

RESULT = Path(__file__).parent / "results" / "out_of_core.json"
IN_MEMORY, CACHED, FROM_DISK = "in memory", "out of core", "out of core, cache dropped"
METHODS = (IN_MEMORY, CACHED, FROM_DISK)
N_TIMES, N_IN, N_OUT = 64, 10, 1


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seed: int = 6143
    n_samples: int = 100
    n_points: int = 128
    batch_size: int = 8
    width: int = 8
    modes: int = 8
    turns: int = 8
    steps: int = 20
    """Steps of a turn that are timed."""
    skipped: int = 5
    """Steps of a turn before them."""
    quick: bool = False
    out: Path = RESULT


def main(settings: Settings) -> None:
    """Train all in turns, print a table and write it."""
    if settings.quick:
        settings = dataclasses.replace(settings, n_samples=20, n_points=64, turns=2, steps=5)
    with tempfile.TemporaryDirectory() as folder:
        path = save_dataset(Path(folder) / "fields.h5", random_fields(settings))
        size = path.stat().st_size / 1e6
        os.sync()  # what is not on the disk yet cannot be thrown out of the cache
        records = in_turns(path, settings)
    baseline = records[IN_MEMORY]
    rows = []
    for name, record in records.items():
        step = statistics.median(record["seconds"])
        rows.append({
            "method": name,
            "step_ms": 1e3 * step,
            "over_memory": step / statistics.median(baseline["seconds"]),
            "peak_mb": record["peak_mb"],
            "start_s": record["start_s"],
        })  # fmt: skip
    print(format_table(rows, {key: key for key in rows[0]}))
    if settings.quick:
        return
    differing = sum(record["losses"] != baseline["losses"] for record in records.values())
    targets = [
        *(
            Target(f"step {row['method']} over step in memory", row["over_memory"], at_most=1.1)
            for row in rows[1:]
        ),
        Target("runs whose losses are not those in memory, to the bit", differing, at_most=0),
    ]
    window_mb = 4e-6 * settings.batch_size * (N_IN + N_OUT) * settings.n_points**2
    write_report(
        settings.out,
        rows=rows,
        targets=targets,
        settings={
            k: v for k, v in dataclasses.asdict(settings).items() if k not in ("quick", "out")
        }
        | {
            "data_mb": size,
            "batch_mb": window_mb,
            "n_times": N_TIMES,
            "n_in": N_IN,
            "n_out": N_OUT,
        },
    )


def random_fields(settings: Settings) -> FieldDataset:
    """Return white noise: how fast data are read does not depend on what they say."""
    shape = (settings.n_samples, N_TIMES, 1, settings.n_points, settings.n_points)
    values = np.random.default_rng(settings.seed).standard_normal(shape, np.float32)
    return FieldDataset.from_array(values, dt=0.1, domain_extent=1.0)


def in_turns(path: Path, settings: Settings) -> dict[str, dict[str, Any]]:
    """Return what each process measured; only one of them trains at a time."""
    spawn = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for name in METHODS:
        pipes[name], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=work, args=(name, path, settings, theirs)))
        processes[-1].start()
        theirs.close()
        pipes[name].recv()  # ready for its first turn
    for turn in range(settings.turns):
        # Forwards and backwards, so that none always comes after the same one.
        for name in METHODS if turn % 2 == 0 else METHODS[::-1]:
            pipes[name].send("go")
            pipes[name].recv()
    records = {}
    for name in METHODS:
        pipes[name].send("finish")
        records[name] = pipes[name].recv()
    for process in processes:
        process.join()
    return records


class InTurns:
    """Batches that wait for the turn of their process, and note when each was asked for."""

    def __init__(self, batches: Any, settings: Settings, pipe: Connection, dropped: Path | None):
        self._batches, self._settings, self._pipe = batches, settings, pipe
        self._dropped = dropped
        self._asked = 0.0
        self.seconds: list[float] = []

    def __getitem__(self, step: int) -> Any:
        in_turn = step % (self._settings.skipped + self._settings.steps)
        now = time.perf_counter()
        if in_turn > self._settings.skipped or (in_turn == 0 and step > 0):
            self.seconds.append(now - self._asked)
        if in_turn == 0:
            self._pipe.send("my turn is over")
            self._pipe.recv()
            now = time.perf_counter()
        self._asked = now
        if self._dropped is not None:
            drop_from_cache(self._dropped)
        return self._batches[step]

    def release(self) -> None:
        """Pass the word on."""
        if hasattr(self._batches, "release"):
            self._batches.release()


def drop_from_cache(path: Path) -> None:
    """Let the system forget what it holds of a file."""
    descriptor = os.open(path, os.O_RDONLY)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(descriptor)


def work(name: str, path: Path, settings: Settings, pipe: Connection) -> None:
    """Train in one way, a turn at a time, and send what was measured."""
    begin = time.perf_counter()
    data = load(path) if name == IN_MEMORY else open_dataset(path)
    normaliser = GaussianNormaliser.fit(data)
    start_s = time.perf_counter() - begin
    key = jax.random.key(settings.seed)
    model = AutoregressiveFNO(
        1,
        N_IN,
        (settings.modes, settings.modes),
        hidden_channels=settings.width,
        normaliser=normaliser,
        key=key,
    )
    batches = data.windows(N_IN, N_OUT, batch_size=settings.batch_size, seed=settings.seed)
    turns = InTurns(batches, settings, pipe, path if name == FROM_DISK else None)
    n_steps = settings.turns * (settings.skipped + settings.steps) + 1
    solution = fit(
        model,
        turns,
        optimizer=one_cycle_adam(1e-3, n_steps),
        n_steps=n_steps,
        key=key,
        log_every=1,
        progress=False,
    )
    pipe.send(
        {
            "seconds": turns.seconds,
            "losses": solution.stats["history"]["loss"][1].tolist(),
            "peak_mb": peak_mb(),
            "start_s": start_s,
        }
    )


def peak_mb() -> float:
    """Return the most memory that this process has had."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return 1024e-6 * int(line.split()[1])
    raise RuntimeError("no VmHWM in /proc/self/status")


if __name__ == "__main__":
    main(tyro.cli(Settings))
