"""Time of a truncated Fourier transform: a dense matrix product against an FFT of all modes.

    python benchmarks/truncated_dft.py [--quick] [--seed 6287]

Both give the same numbers to round-off. Each row is the gradient of a transform there and back over
a batch, forward and backward pass together, as training needs it. The two, and the choice that
sciml makes, take turns in one process on one thread; the best of many times is kept, since other
programs on the machine only add to it.
"""

import dataclasses
import os
import time
from collections.abc import Sequence
from pathlib import Path

# Comparable only with one thread on both sides; set before jax starts.
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)

import jax
import jax.numpy as jnp
import tyro

from sciml.core import Target, format_table, write_report
from sciml.numerics import relative_l2, truncated_irfftn, truncated_rfftn

RESULT = Path(__file__).parent / "results" / "truncated_dft.json"
# (batch and channels, points, modes): the shapes of the demo, of the FNO paper, and beyond.
CASES = (
    (32, (12, 16, 16), (6, 6, 6)),
    (32, (64, 64), (6, 6)),
    (32, (64, 64), (12, 12)),
    (32, (64, 64), (16, 16)),
    (32, (64, 64), (24, 24)),
    (32, (128, 128), (12, 12)),
    (8, (256, 256), (12, 12)),
    (8, (256, 256), (32, 32)),
    (8, (256, 256), (48, 48)),
    (8, (256, 256), (96, 96)),
)
METHODS = {"dense": True, "fft": False, "chosen": None}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seed: int = 6287
    repeats: int = 40
    quick: bool = False
    """The two smallest cases; nothing is written."""


def main(settings: Settings) -> None:
    """Time every case, print a table and write it."""
    cases = CASES[:2] if settings.quick else CASES
    keys = jax.random.split(jax.random.key(settings.seed), len(cases))
    rows = [time_case(*case, settings.repeats, key) for case, key in zip(cases, keys, strict=True)]
    print(format_table(rows, {key: key for key in rows[0]}))
    if not settings.quick:
        write_report(
            RESULT,
            command="python benchmarks/truncated_dft.py",
            rows=rows,
            targets=[
                Target(
                    "largest difference between the two",
                    max(row["difference"] for row in rows),
                    at_most=1e-5,
                ),
                Target(
                    "time of the chosen method over the faster one, worst case",
                    max(row["chosen_over_faster"] for row in rows),
                    at_most=1.25,
                ),
            ],
            settings=dataclasses.asdict(settings) | {"threads": 1},
        )


def time_case(
    batch: int, n_points: Sequence[int], n_modes: Sequence[int], repeats: int, key: jax.Array
) -> dict[str, object]:
    """Time one shape by each method, in turns."""
    u = jax.random.normal(key, (batch, *n_points))

    def there_and_back(u, dense):
        return truncated_irfftn(truncated_rfftn(u, n_modes, dense=dense), n_points, dense=dense)

    def gradient(dense):
        return jax.jit(jax.grad(lambda u: jnp.sum(there_and_back(u, dense) ** 2)))

    functions = {name: gradient(dense) for name, dense in METHODS.items()}
    values = {name: jax.block_until_ready(f(u)) for name, f in functions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for _ in range(repeats):
        for name, function in functions.items():
            begin = time.perf_counter()
            jax.block_until_ready(function(u))
            seconds[name].append(time.perf_counter() - begin)
    best = {name: min(taken) for name, taken in seconds.items()}
    return {
        "batch": batch,
        "points": " x ".join(map(str, n_points)),
        "modes": " x ".join(map(str, n_modes)),
        **{f"{name}_ms": 1e3 * value for name, value in best.items()},
        "fft_over_dense": best["fft"] / best["dense"],
        "chosen_over_faster": best["chosen"] / min(best["dense"], best["fft"]),
        "difference": float(relative_l2(values["dense"], values["fft"])),
    }


if __name__ == "__main__":
    main(tyro.cli(Settings))
