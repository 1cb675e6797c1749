"""Several devices and processes: the same losses, a killed worker, and what a step costs each.

    python benchmarks/scaling.py            # about eight minutes of processor time
    python benchmarks/scaling.py --quick    # fewer steps; nothing is written
    python benchmarks/scaling.py --only strong grids    # these parts; rows of the others are kept

Devices are virtual ones of a CPU, with one thread each, so the times tell what parting costs and
not how much faster several devices are: there are no more cores than before. Weak scaling: each
device has the same number of samples. A run on several devices is compared with one device that
gets the same batches. Strong scaling: one system is solved by CG with a multigrid cycle, and one
set of trajectories generated, on more and more devices. Then what each process reads of the batches
of a file, as the system counts it. A worker of two is killed by SIGKILL in the middle of `sciml
train`, both are started again, and what they end with is compared with a run that was left alone.
At last the formulas of `scaling_model.py` beside what XLA counts in the compiled programs.
"""

import dataclasses
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
import tyro
from scaling_model import Cluster, predictions
from scaling_reading import N_IN, N_OUT

import sciml
from sciml.core import Target, format_table, write_report
from sciml.data import FieldDataset, save_dataset
from sciml.train import read_metrics

HERE = Path(__file__).parent
RESULT = HERE / "results" / "scaling.json"
FLAGS = "--xla_cpu_multi_thread_eigen=false"
PER_DEVICE = 4


@dataclasses.dataclass(frozen=True)
class Layout:
    """Devices of a run."""

    devices: int
    processes: int = 1
    model: int = 1

    def __str__(self) -> str:
        words = f"{self.devices} device{'s' * (self.devices > 1)}"
        if self.processes > 1:
            words = f"{self.processes} processes of 1 device"
        return words + (f", weights in {self.model} parts" if self.model > 1 else "")


PARTS = ("weak", "strong", "killed", "costs", "grids", "reading", "predictions")
LAYOUTS = (Layout(1), Layout(2), Layout(4), Layout(4, model=2), Layout(2, processes=2))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    steps: int = 12
    seed: int = 6211
    heartbeat: int = 10
    """Seconds until a process that is gone is missed."""
    quick: bool = False
    only: tuple[str, ...] = PARTS
    """Parts that are run; the result file keeps the rows of the others."""
    out: Path = RESULT


def main(settings: Settings) -> None:
    """Run all parts, print tables, write the result file."""
    if settings.quick:
        settings = dataclasses.replace(settings, steps=5)
    if unknown := set(settings.only) - set(PARTS):
        raise ValueError(f"--only takes {PARTS}, got {sorted(unknown)}.")
    run = {
        "weak": weak_scaling,
        "killed": lambda settings: [killed_worker(settings)],
        "strong": lambda _: strong_scaling(),
        "costs": lambda _: json.loads(finished([worker(["costs"], devices=4)])[0]),
        "grids": lambda _: json.loads(finished([worker(["grids"], devices=4)])[0]),
        "reading": reading,
        "predictions": lambda _: predictions(Cluster()),
    }
    stored = []
    if settings.out.exists() and not settings.quick:
        stored = json.loads(settings.out.read_text())["rows"]
    parts: dict[str, list[dict[str, Any]]] = {}
    for name in PARTS:
        if name not in settings.only:
            parts[name] = [row for row in stored if _part_of(row) == name]
            continue
        parts[name] = rows = run[name](settings)
        columns = [key for key, value in rows[0].items() if not isinstance(value, dict)]
        print(format_table(rows, {key: key for key in columns}))
    found = [
        target for name, rows in parts.items() if rows for target in targets(name, rows, settings)
    ]
    for target in found:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/scaling.py",
            rows=[_readable(row) for rows in parts.values() for row in rows],
            targets=found,
            settings={
                "steps": settings.steps,
                "seed": settings.seed,
                "samples_per_device": PER_DEVICE,
                "cores_used": len(os.sched_getaffinity(0)),
                "heartbeat": settings.heartbeat,
            },
        )
        print(f"written: {settings.out}")


def _part_of(row: dict[str, Any]) -> str:
    """Return the part that a stored row belongs to."""
    if "flops_hlo" in row:
        return "grids" if row["case"].startswith(("CG", "generation")) else "costs"
    beginnings = {
        "weak": "weak scaling",
        "strong": "strong scaling",
        "killed": "two processes",
        "reading": "reading",
    }
    found = [name for name, words in beginnings.items() if row["case"].startswith(words)]
    return found[0] if found else "predictions"


def targets(part: str, rows: list[dict[str, Any]], settings: Settings) -> list[Target]:
    """Return what was promised of a part."""
    if part == "weak":
        several = [row["difference"] for row in rows if row["difference"] is not None]
        return [
            Target(
                "losses on several devices or processes: largest relative difference to one device",
                max(several),
                at_most=1e-5,
            )
        ]
    if part == "killed":
        (killed,) = rows
        return [
            Target(
                "a killed worker: losses and weights that differ from the run left alone",
                killed["losses_that_differ"] + killed["arrays_that_differ"],
                at_most=0,
            ),
            Target(
                "a killed worker: seconds until the other has ended too",
                killed["survivor_s"],
                at_most=3 * settings.heartbeat,
            ),
        ]
    if part == "strong":
        several = [row for row in rows if row["devices"] > 1]
        return [
            Target(
                "CG on several devices: iterations more or less than on one",
                max(abs(row["steps_more"]) for row in several if row["steps_more"] is not None),
                at_most=0,
            ),
            Target(
                "CG on several devices: largest difference to one device, relative",
                max(row["difference"] for row in several if row["unit"] == "iteration"),
                at_most=1e-10,
            ),
            Target(
                "trajectories of several devices: largest difference to one device, relative",
                max(row["difference"] for row in several if row["unit"] == "trajectory"),
                at_most=0,
            ),
        ]
    if part in ("costs", "grids"):
        of = "" if part == "costs" else "CG and generation: "
        exchanging = [cost for cost in rows if cost["exchanged"]]
        silent = [cost for cost in rows if not cost["exchanged"]]
        found = [
            Target(
                f"{of}flops by formula: largest deviation from the compiled program",
                max(abs(cost["flops"] / cost["flops_hlo"] - 1) for cost in rows),
                at_most=0.2,
            ),
            Target(
                f"{of}exchanged bytes by formula: largest deviation from the compiled program",
                max(abs(cost["exchanged"] / cost["exchanged_hlo"] - 1) for cost in exchanging),
                at_most=0.1,
            ),
            Target(
                f"{of}bytes exchanged where the formula says none",
                max(cost["exchanged_hlo"] for cost in silent),
                at_most=0,
            ),
        ]
        if part == "costs":
            found.append(
                Target(
                    "bytes of parameters and moments by formula: largest deviation",
                    max(abs(c["state"] / c["state_hlo"] - 1) for c in rows if c["state"]),
                    at_most=0.01,
                )
            )
        return found
    if part == "reading":
        parted = [row for row in rows if row["kind"] == "parted"]
        return [
            Target(
                "bytes that a process reads over its share of a batch: largest",
                max(row["over_share"] for row in parted),
                at_most=1.05,
            ),
            Target(
                "losses of processes that read their own samples: largest relative difference",
                max(row["difference"] for row in parted),
                at_most=1e-5,
            ),
            Target(
                "losses of two processes that differ from those of two that read everything",
                sum(row["losses_unlike_whole"] for row in parted if row["processes"] == 2),
                at_most=0,
            ),
        ]
    return []


def _readable(cost: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose collectives are words, if it has any that are not."""
    if not isinstance(cost.get("collectives"), dict):
        return cost
    formula = [f"{kind} {size / 1e6:.3g} MB" for kind, size in cost["collectives"].items()]
    compiled = [
        f"{entry['count']} {kind} {entry['bytes'] / 1e6:.3g} MB"
        for kind, entry in cost["collectives_hlo"].items()
    ]
    words = {"collectives": ", ".join(formula), "collectives_hlo": ", ".join(compiled)}
    return cost | words


def weak_scaling(settings: Settings) -> list[dict[str, Any]]:
    """Train the small SFNO on each layout, and on one device with the same batches."""
    alone: dict[int, dict[str, Any]] = {}
    rows = []
    for layout in LAYOUTS:
        batch = PER_DEVICE * layout.devices
        words = ["train", str(batch), str(layout.model), str(settings.steps)]
        if batch not in alone:
            alone[batch] = json.loads(finished([worker(words)])[0])
        reference = alone[batch]
        outcomes, difference = [reference], None
        if layout.devices > 1:
            outcomes = [json.loads(line) for line in finished(_workers(words, layout))]
            found = outcomes[0]
            if found["devices"] != layout.devices:
                raise RuntimeError(f"{layout}: the run had {found['devices']} devices.")
            ratio = np.array(found["losses"]) / np.array(reference["losses"])
            difference = float(np.max(np.abs(ratio - 1)))
        found = outcomes[0]
        cpu = sum(statistics.median(outcome["cpu_seconds"]) for outcome in outcomes)
        rows.append(
            {
                "case": "weak scaling, SFNO",
                "layout": str(layout),
                "batch": batch,
                "step_ms": 1e3 * statistics.median(found["seconds"]),
                "cpu_ms": 1e3 * cpu,
                "cpu_over_one_device": cpu / statistics.median(reference["cpu_seconds"]),
                "difference": difference,
                "last_loss": found["losses"][-1],
            }
        )
        print(rows[-1], flush=True)
    return rows


def strong_scaling() -> list[dict[str, Any]]:
    """Solve one system and generate one set on more and more devices."""
    rows: list[dict[str, Any]] = []
    alone: dict[str, dict[str, Any]] = {}
    for n in (1, 2, 4):
        for found in json.loads(finished([worker(["strong", str(n)], devices=n)])[0]):
            first = alone.setdefault(found["case"], found)
            values, expected = np.array(found["values"]), np.array(first["values"])
            steps = found["steps"]
            rows.append(
                {
                    "case": found["case"],
                    "devices": n,
                    "unit": found["unit"],
                    "cpu_ms": found["cpu_ms"],
                    "cpu_over_one_device": found["cpu_ms"] / first["cpu_ms"],
                    "steps": steps,
                    "steps_more": None if steps is None else steps - first["steps"],
                    "difference": float(
                        np.max(np.abs(values - expected)) / np.max(np.abs(expected))
                    ),
                }
            )
            print(rows[-1], flush=True)
    return rows


def reading(settings: Settings) -> list[dict[str, Any]]:
    """Train on windows in a file and return how much of a batch each process reads."""
    batch, n_points, n_times = 16, 64, 16
    batch_bytes = 4 * batch * (N_IN + N_OUT) * n_points**2
    rows: list[dict[str, Any]] = []
    alone = whole = None
    with tempfile.TemporaryDirectory() as name:
        random = np.random.default_rng(settings.seed)
        values = random.standard_normal((40, n_times, 1, n_points, n_points), np.float32)
        data = FieldDataset.from_array(values, dt=0.1, domain_extent=1.0)
        path = save_dataset(Path(name) / "fields.h5", data)
        for n, kind in ((1, "parted"), (2, "whole"), (2, "parted"), (4, "parted")):
            words = [str(HERE / "scaling_reading.py"), str(path), str(batch), "24", kind]
            where = [free_address(), str(n)] if n > 1 else []
            running = [process([*words, *where, *([str(k)] if where else [])]) for k in range(n)]
            outcomes = [json.loads(line) for line in finished(running)]
            losses = np.array(outcomes[0]["losses"])
            alone = losses if alone is None else alone
            if kind == "whole":
                whole = losses
            read = max(statistics.median(outcome["bytes"]) for outcome in outcomes)
            rows.append(
                {
                    "case": "reading a batch",
                    "kind": kind,
                    "processes": n,
                    "batch": batch,
                    "samples_of_a_process": max(outcome["samples"] for outcome in outcomes),
                    "batch_bytes": batch_bytes,
                    "read_bytes_of_a_process": read,
                    "over_share": read * n / batch_bytes,
                    "difference": float(np.max(np.abs(losses / alone - 1))),
                    "losses_unlike_whole": int(np.sum(losses != whole)) if n == 2 else None,
                }
            )
            print(rows[-1], flush=True)
    return rows


def killed_worker(settings: Settings) -> dict[str, Any]:
    """Kill the second of two processes of ``sciml train`` and start both again."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(settings.seed)
        values = random.standard_normal((20, 8, 1, 32, 32), np.float32)
        data = FieldDataset.from_array(values, dt=0.1, domain_extent=1.0)
        path = save_dataset(folder / "fields.h5", data)

        def start(run: str, *more: str) -> list[subprocess.Popen]:
            address = free_address()
            words = f"train fno2d --data {path} --run-dir {folder / run} --n-in 2 --n-out 1"
            words += " --modes 8 8 --layers 2 --steps 200 --batch-size 8 --out-of-core"
            words += " --checkpoint-every 20 --validate-every 100"
            words += f" --distributed --coordinator-address {address} --num-processes 2"
            words += f" --heartbeat-timeout {settings.heartbeat} --seed {settings.seed}"
            return [
                process(["-m", "sciml", *words.split(), "--process-id", str(k), *more])
                for k in (0, 1)
            ]

        pair = start("killed")
        while not (folder / "killed" / "checkpoint" / "config.json").exists():
            if any(each.poll() is not None for each in pair):
                finished(pair)
            time.sleep(0.01)
        time.sleep(0.1)
        pair[1].send_signal(signal.SIGKILL)
        begin = time.perf_counter()
        pair[0].communicate()
        survivor_s = time.perf_counter() - begin
        pair[1].communicate()
        at_kill = int(read_metrics(folder / "killed")["loss"][0][-1])
        begin = time.perf_counter()
        finished(start("killed", "--resume"))
        again_s = time.perf_counter() - begin
        finished(start("straight"))
        logs = [read_metrics(folder / run)["loss"] for run in ("killed", "straight")]
        models = [sciml.load(folder / run / "checkpoint") for run in ("killed", "straight")]
        leaves = [[np.asarray(leaf) for leaf in jax.tree.leaves(model)] for model in models]
    same_steps = np.array_equal(logs[0][0], logs[1][0])
    return {
        "case": "two processes, one killed",
        "logged_step_at_kill": at_kill,
        "survivor_s": survivor_s,
        "again_s": again_s,
        "losses": len(logs[1][0]),
        "losses_that_differ": int(np.sum(logs[0][1] != logs[1][1])) if same_steps else len(logs[1]),
        "arrays_that_differ": sum(not np.array_equal(a, b) for a, b in zip(*leaves, strict=True)),
    }


def _workers(words: list[str], layout: Layout) -> list[subprocess.Popen]:
    if layout.processes == 1:
        return [worker(words, devices=layout.devices)]
    where = [free_address(), str(layout.processes)]
    return [worker([*words, *where, str(k)]) for k in range(layout.processes)]


def worker(words: list[str], devices: int = 1) -> subprocess.Popen:
    """Start `scaling_cases.py`."""
    return process([str(HERE / "scaling_cases.py"), *words], devices)


def process(words: list[str], devices: int = 1) -> subprocess.Popen:
    """Start Python with so many virtual devices."""
    environment = os.environ | {
        "XLA_FLAGS": f"{FLAGS} --xla_force_host_platform_device_count={devices}",
        "JAX_PLATFORMS": "cpu",
        # XLA's threads: with fewer than devices they can wait for each other for ever.
        "NPROC": "8",
        "SCIML_COMPILATION_CACHE": "off",
    }
    return subprocess.Popen(
        [sys.executable, *words],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finished(processes: list[subprocess.Popen]) -> list[str]:
    """Return the last line of each when all have ended well."""
    outputs = [each.communicate() for each in processes]
    for each, (_, errors) in zip(processes, outputs, strict=True):
        if each.returncode:
            raise RuntimeError(errors)
    return [out.strip().splitlines()[-1] if out.strip() else "" for out, _ in outputs]


def free_address() -> str:
    """Return an address of this machine where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{free.getsockname()[1]}"


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
