"""Time and memory of an FNO training step beside neuraloperator's, like for like, on CPU.

    python benchmarks/fno_training_step.py [--quick] [--steps 10] [--seed 6287] [--resume]

Needs the peers, ``pip install torch==2.13.0 neuraloperator==2.0.0``, in the same environment. Both
sides have the same blocks, parameters, exact GELU, loss and Adam; our model gets the peer's weights
and must give its output. They take turns, step by step, in one process pinned to one core and then
to two, under the same settings of the allocator, which keep freed memory (`TUNABLES`). Medians of
the time and of the processor time are reported. If other programs hold one of two cores, nothing is
timed on both (threads that wait for a descheduled one would be measured, the peer's above all), and
the targets of two threads are reported as missed; ``--resume`` measures what the result file lacks.
Memory is the growth of the resident set at its peak within a step plus what lives between steps,
each side in a process of its own. The floor is what the matrix products and the passes through
memory of a step would take at the best rates that JAX reaches on the same cores: no implementation
gets there.
"""

import ctypes
import dataclasses
import functools
import gc
import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro

from sciml.core import Target, format_table, write_report
from sciml.neural_operators import FNO
from sciml.nn import LayerForm, gelu

RESULT = Path(__file__).parent / "results" / "fno_training_step.json"
N_LAYERS = 4
WARM_UP = 4
# Freed memory stays with the process, in pages of 2 MB: a step then asks the system for nothing.
TUNABLES = ":".join(
    f"glibc.malloc.{setting}"
    for setting in ("hugetlb=1", "mmap_max=0", "arena_max=1", "trim_threshold=17179869184")
)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network and its batch."""

    batch: int
    space: tuple[int, ...]
    width: int
    modes: tuple[int, ...]


CASES = {
    "2-d 256 x 256": Case(4, (256, 256), 20, (12, 12)),
    "3-d 64 x 64 x 10": Case(4, (64, 64, 10), 20, (8, 8, 5)),
    "2-d 64 x 64, wide": Case(16, (64, 64), 64, (16, 16)),
}
QUICK = {"2-d 32 x 32": Case(2, (32, 32), 8, (4, 4))}
FORMS = {"plain": LayerForm.PLAIN, "default": LayerForm.GATED}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seed: int = 6287
    steps: int = 10
    quick: bool = False
    """One small case; nothing is written."""
    resume: bool = False
    """Keep what the result file has and measure only what it lacks."""
    job: str | None = None
    """What the script tells the processes it starts."""


def main(settings: Settings) -> None:
    """Run every case in processes of its own, print a table and write it."""
    if settings.job is not None:
        print(json.dumps(run_job(settings)))
        return
    rows = []
    kept = kept_rows() if settings.resume else {}
    for name in QUICK if settings.quick else CASES:
        for form in FORMS:
            missing = [n for n in (1, 2) if (name, form, n) not in kept]
            sides = ("ours", "peer") if missing else ()
            memory = {side: start(settings, name, form, 1, side)["peak_mb"] for side in sides}
            for threads in (1, 2):
                if threads not in missing:
                    rows.append(kept[name, form, threads])
                    continue
                row = {"case": name, "form": form, "threads": threads, "ratio": None}
                row |= start(settings, name, form, threads, "time")
                row |= {f"{side}_peak_mb": peak for side, peak in memory.items()}
                rows.append(row)
                print(json.dumps(row), flush=True)
    columns = ("case", "form", "threads", "ours_ms", "peer_ms", "ratio", "floor_ms")
    columns += ("ours_peak_mb", "peer_peak_mb")
    print(format_table([row for row in rows if row["ratio"]], {key: key for key in columns}))
    if not settings.quick:
        write_report(
            RESULT,
            command="python benchmarks/fno_training_step.py",
            rows=rows,
            targets=[
                *(
                    Target(
                        f"our time over the peer's: {row['case']}, {row['form']} form, "
                        f"{row['threads']} thread" + "s" * (row["threads"] > 1),
                        row["ratio"],
                        at_most=0.6,
                    )
                    for row in rows
                ),
                Target(
                    "geometric mean of these ratios (the aim beyond the target)",
                    math.exp(np.mean([math.log(row["ratio"]) for row in rows if row["ratio"]])),
                    at_most=0.4,
                ),
                Target(
                    "largest relative difference of the outputs",
                    max(row.get("difference", 0.0) for row in rows),
                    at_most=2e-6,
                ),
            ],
            settings={"seed": settings.seed, "steps": settings.steps, "allocator": TUNABLES},
        )


def kept_rows() -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the rows of the result file that have a time."""
    rows = json.loads(RESULT.read_text())["rows"]
    return {(r["case"], r["form"], r["threads"]): r for r in rows if r["ratio"]}


def start(settings: Settings, case: str, form: str, threads: int, what: str) -> dict[str, Any]:
    """Run one job in a new process and return what it prints last."""
    job = json.dumps([case, form, threads, what])
    command = [sys.executable, __file__, "--seed", str(settings.seed)]
    command += ["--steps", str(settings.steps), "--job", job]
    environment = os.environ | {"GLIBC_TUNABLES": TUNABLES, "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{job} failed:\n{done.stderr}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_job(settings: Settings) -> dict[str, Any]:
    """Do what `start` asked for."""
    assert settings.job is not None
    name, form, threads, what = json.loads(settings.job)
    cores = sorted(os.sched_getaffinity(0))[-threads:]
    if len(cores) < threads:
        raise RuntimeError(f"needs {threads} cores, this process may use {len(cores)}")
    os.sched_setaffinity(0, cores)  # XLA takes as many threads
    if threads > 1 and (free := free_cores(threads)) < 0.9 * threads:
        return {"free_cores": free}
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    case = (CASES | QUICK)[name]
    rng = np.random.default_rng(settings.seed)
    x, y = (rng.normal(size=(case.batch, 1, *case.space)).astype(np.float32) for _ in range(2))
    network = peer_network(case, form)
    if what == "peer":
        return peak_memory(peer_step(network, x, y), 3 * n_bytes_of(network))
    model = ours(case, form, network)
    if what == "ours":
        return peak_memory(our_step(model, x, y), 3 * n_bytes_of(network))
    with torch.no_grad():
        expected = network(torch.from_numpy(x)).numpy()
    result = eqx.filter_jit(predict)(model, jnp.asarray(x))
    difference = float(np.linalg.norm(result - expected) / np.linalg.norm(expected))
    steps = {"ours": our_step(model, x, y), "peer": peer_step(network, x, y)}
    seconds: dict[str, list[float]] = {side: [] for side in steps}
    cpu_seconds: dict[str, list[float]] = {side: [] for side in steps}
    for i in range(settings.steps + WARM_UP):
        for side, step in steps.items():
            begin, cpu_begin = time.perf_counter(), time.process_time()
            step()
            if i >= WARM_UP:
                seconds[side].append(time.perf_counter() - begin)
                cpu_seconds[side].append(time.process_time() - cpu_begin)
    median = {side: float(np.median(taken)) for side, taken in seconds.items()}
    return {
        "ours_ms": 1e3 * median["ours"],
        "peer_ms": 1e3 * median["peer"],
        "ratio": median["ours"] / median["peer"],
        "ours_cpu_ms": 1e3 * float(np.median(cpu_seconds["ours"])),
        "peer_cpu_ms": 1e3 * float(np.median(cpu_seconds["peer"])),
        "floor_ms": 1e3 * floor(case, form),
        "parameters": n_bytes_of(network) // 4,
        "difference": difference,
    }


def peer_network(case: Case, form: str) -> Any:
    """Return neuraloperator's network; odd mode counts make its modes ours."""
    import neuralop  # pyright: ignore[reportMissingImports]

    modes = tuple(2 * m - 1 for m in case.modes)
    if form == "default":
        return neuralop.models.FNO(modes, 1, 1, case.width, n_layers=N_LAYERS)
    network = neuralop.models.FNO(
        modes, 1, 1, case.width, n_layers=N_LAYERS, use_channel_mlp=False, lifting_channel_ratio=0
    )
    blocks = network.fno_blocks

    def forward(v, index=0, output_shape=None):
        v = blocks.convs[index](v) + blocks.fno_skips[index](v)
        return blocks.non_linearity(v) if index < N_LAYERS - 1 else v

    # Without the MLP, version 2.0 applies the activation twice in a row. Once is faster.
    blocks.forward = forward
    return network


def peer_step(network: Any, x: np.ndarray, y: np.ndarray) -> Callable[[], Any]:
    """Return a function that makes one training step of the peer."""
    import torch  # pyright: ignore[reportMissingImports]

    optimiser = torch.optim.Adam(network.parameters(), lr=1e-4)
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y)

    def step():
        optimiser.zero_grad()
        loss = torch.mean((network(inputs) - targets) ** 2)
        loss.backward()
        optimiser.step()
        return loss.item()

    return step


def ours(case: Case, form: str, network: Any) -> FNO:
    """Return our model with the peer's weights."""
    weights = {name: p.detach().numpy() for name, p in network.named_parameters()}
    model = FNO(
        1 + len(case.space),
        1,
        case.modes,
        hidden_channels=case.width,
        n_layers=N_LAYERS,
        coordinates=False,
        form=FORMS[form],
        lifting_channels=None if form == "plain" else 2 * case.width,
        activation=gelu,
        key=jax.random.key(0),
    )

    width, layers = case.width, range(N_LAYERS)

    def weight(name):
        return weights[name].reshape(weights[name].shape[:2])  # of 1x1 convolutions

    def spectral(i):
        kept = model.layers[i].spectral.weight.shape[:-3]
        w = weights[f"fno_blocks.convs.{i}.weight.tensor"].reshape(width, width, *kept)
        w = np.moveaxis(w, (1, 0), (-2, -1))
        return np.stack([np.real(w), np.imag(w)], axis=-2)

    new = [spectral(i) for i in layers]
    new += [weights[f"fno_blocks.convs.{i}.bias"].reshape(width) for i in layers]
    new += [weight(f"fno_blocks.fno_skips.{i}.conv.weight") for i in layers]
    names = ["projection.fcs.0", "projection.fcs.1", "lifting.fcs.0"]
    if form != "plain":
        new += [weights[f"fno_blocks.channel_mlp_skips.{i}.weight"].reshape(width) for i in layers]
        names += ["lifting.fcs.1"]
        names += [f"fno_blocks.channel_mlp.{i}.fcs.{k}" for i in layers for k in (0, 1)]
    for name in names:
        new += [weight(f"{name}.weight"), weights[f"{name}.bias"]]

    def where(m):
        parts = [layer.spectral.weight for layer in m.layers]
        parts += [layer.pointwise.bias for layer in m.layers]
        parts += [layer.pointwise.weight for layer in m.layers]
        linears = [m.projection.first, m.projection.second]
        if form == "plain":
            linears += [m.lifting]
        else:
            parts += [layer.gate for layer in m.layers]
            linears += [m.lifting.first, m.lifting.second]
            for layer in m.layers:
                linears += [layer.mlp.first, layer.mlp.second]
        return parts + [p for linear in linears for p in (linear.weight, linear.bias)]

    return eqx.tree_at(where, model, [jnp.asarray(w) for w in new])


def predict(model: FNO, x: jax.Array) -> jax.Array:
    """Apply our model, coordinates appended as the peer does."""
    axes = [jnp.arange(n, dtype=x.dtype) / n for n in x.shape[2:]]
    grid = jnp.stack(jnp.meshgrid(*axes, indexing="ij"))
    return jax.vmap(lambda u: model(jnp.concatenate([u, grid])))(x)


def our_step(
    model: FNO, x: np.ndarray, y: np.ndarray, *, dtype: Any = np.float32, products: Any = None
) -> Callable[[], Any]:
    """Return a function that makes one training step of our model.

    ``dtype`` is the precision of the input, ``products`` JAX's name of that of matrix products.
    """
    optimiser = optax.adam(1e-4)
    arrays, static = eqx.partition(model, eqx.is_array)
    arrays = jax.tree.map(jnp.copy, arrays)  # the model keeps its own: a step gives them away
    state = [arrays, optimiser.init(arrays)]
    data = (jnp.asarray(x, dtype), jnp.asarray(y))

    def loss(arrays, x, y):
        found = predict(eqx.combine(arrays, static), x)
        return jnp.mean((found.astype(y.dtype) - y) ** 2)

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def update(arrays, moments, x, y):
        value, gradient = jax.value_and_grad(loss)(arrays, x, y)
        changes, moments = optimiser.update(gradient, moments)
        return optax.apply_updates(arrays, changes), moments, value

    def step():
        with jax.default_matmul_precision(products):
            *state[:], value = update(*state, *data)
        jax.block_until_ready(state)
        return float(value)

    return step


def n_bytes_of(network: Any) -> int:
    """Return the size of the parameters."""
    return sum(p.numel() * p.element_size() for p in network.parameters())


def free_cores(threads: int) -> float:
    """Return how many cores ``threads`` busy threads get for a second."""

    def work(end):
        a = np.ones((256, 256))
        while time.perf_counter() < end:
            a @ a  # without the lock of the interpreter

    begin, cpu_begin = time.perf_counter(), time.process_time()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, [begin + 1] * threads))
    return (time.process_time() - cpu_begin) / (time.perf_counter() - begin)


def peak_memory(step: Callable[[], Any], kept: int) -> dict[str, float]:
    """Return the peak growth of memory within a step, plus ``kept`` bytes between steps."""
    step()
    step()
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    step()
    return {"peak_mb": (_status("VmHWM") - before + kept) / 1e6}


def _status(key: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(key):
            return 1024 * int(line.split()[1])
    raise RuntimeError(f"no {key} in /proc/self/status")


def floor(case: Case, form: str) -> float:
    """Return the seconds of a step at the best rates of these cores.

    Products count three times (forward, and two in the backward pass), arrays of all points six:
    written and read once forward, read twice and their cotangent written and read backward.
    """
    width, points = case.width, case.batch * math.prod(case.space)
    mixing = N_LAYERS * width**2 + 2 * width * (width + 1)
    fields = N_LAYERS * width + 2 * width
    if form == "default":
        mixing += N_LAYERS * width**2 + 2 * width * (width + 3)
        fields += N_LAYERS * (width // 2 + width) + 2 * width
    transforms = 2 * N_LAYERS * width * (2 * case.modes[0] - 1)
    rate, bandwidth = _rates()
    return 3 * 2 * points * (mixing + transforms) / rate + 6 * 4 * points * fields / bandwidth


def _rates() -> tuple[float, float]:
    a = jnp.ones((1024, 1024))
    v = jnp.ones(16 * 1024 * 1024)
    product = jax.jit(lambda a: a @ a)
    shifted = jax.jit(lambda v: v + 1, donate_argnums=0)
    times: list[list[float]] = [[], []]
    for _ in range(12):
        begin = time.perf_counter()
        jax.block_until_ready(product(a))
        times[0].append(time.perf_counter() - begin)
        begin = time.perf_counter()
        v = jax.block_until_ready(shifted(v))
        times[1].append(time.perf_counter() - begin)
    return 2 * 1024**3 / min(times[0]), 2 * v.nbytes / min(times[1])


if __name__ == "__main__":
    main(tyro.cli(Settings))
