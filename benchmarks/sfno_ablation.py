"""What the buffer and the rate of change of SFNO are worth, on the shipped sample.

    python benchmarks/sfno_ablation.py [--quick] [--seeds 31 32]

Equal training for each variant: the same windows, steps and learning rate, on 16 x 16 points.
Errors are relative L2 in space and time over 40 snapshots, on the 8 test trajectories at 64 x 64
points from three start times each; ``error_at_the_end`` is that of the last snapshot alone, and
``error_at_54_fed_back`` that of snapshot 54 when the forecast of the first 40 is fed back
(the last row is persistence).
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import tyro

import sciml
from sciml.core import format_table, write_report
from sciml.data import GaussianNormaliser, VorticitySymmetries
from sciml.neural_operators import (
    AbstractForecaster,
    Persistence,
    SpatiotemporalFNO,
    evaluate,
    rollout,
)
from sciml.numerics import relative_l2
from sciml.train import fit, one_cycle_adam

N_IN, N_OUT = 10, 40
RESULT = Path(__file__).parent / "results" / "sfno_ablation.json"
VARIANTS = {
    "as it is: last snapshot and slope, 2 buffer nodes": {},
    "no buffer": {"buffer_steps": 0},
    "last snapshot only": {"n_history": 1},
    "and curvature": {"n_history": 3},
    "and third derivative": {"n_history": 4},
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the stored result file."""

    seeds: tuple[int, ...] = (31, 32)
    n_steps: int = 450
    learning_rate: float = 1e-2
    quick: bool = False
    """One seed, 20 steps; nothing is written."""


def main(settings: Settings) -> None:
    """Train every variant from every seed, print a table and write it."""
    if settings.quick:
        settings = dataclasses.replace(settings, seeds=settings.seeds[:1], n_steps=20)
    rows = []
    for name, options in VARIANTS.items():
        for seed in settings.seeds:
            rows.append({"method": name, "seed": seed, **run(options, seed, settings)})
            print(rows[-1], flush=True)
    test = sciml.data.load("navier-stokes", n_points=64).test
    rows.append(
        {"method": "persistence", "error_at_54_fed_back": error_when_fed_back(Persistence(), test)}
    )
    print(format_table(rows, {key: key for key in rows[0]}))
    if not settings.quick:
        write_report(
            RESULT,
            command="python benchmarks/sfno_ablation.py",
            rows=rows,
            settings=dataclasses.asdict(settings),
        )


def run(options: dict[str, int], seed: int, settings: Settings) -> dict[str, float]:
    """Train one model and return its errors."""
    train = sciml.data.load("navier-stokes", n_points=16).train
    test = sciml.data.load("navier-stokes", n_points=64).test
    model_key, fit_key = jax.random.split(jax.random.key(seed))
    model = SpatiotemporalFNO(
        1,
        dt=train.dt,
        horizon=N_OUT * train.dt,
        n_modes=(6, 6, 6),
        hidden_channels=8,
        context_channels=1,
        normaliser=GaussianNormaliser.fit(train),
        key=model_key,
        **options,
    )
    symmetries = VorticitySymmetries.for_fno_forcing()
    model = fit(
        model,
        train.windows(N_IN, N_OUT, batch_size=4, seed=seed, transform=symmetries),
        optimizer=one_cycle_adam(settings.learning_rate, settings.n_steps),
        n_steps=settings.n_steps,
        key=fit_key,
        progress=False,
    ).value
    (score,) = evaluate({"SFNO": model}, test, N_IN, N_OUT, starts=(0, 7, 14))
    return {
        "relative_l2": score.relative_l2,
        "error_at_the_end": float(score.error_curve[:, -1].mean()),
        "error_at_54_fed_back": error_when_fed_back(model, test),
        "change_with_output_steps": change_with_output_steps(model, test),
    }


def error_when_fed_back(model: AbstractForecaster, test: sciml.data.FieldDataset) -> float:
    """Return the mean relative L2 error of snapshot 54, of which the model predicts 40 at once."""
    forecast = jax.jit(jax.vmap(lambda v, c: rollout(model, v, 54, window=N_OUT, context=c)))
    inputs = jnp.asarray(test.values[:, :N_IN])
    context = jnp.broadcast_to(test.context, (len(test), *test.context.shape[1:]))
    last = forecast(inputs, context)[:, -1:]
    return float(jnp.mean(jax.vmap(relative_l2)(last, test.values[:, N_IN + 53 : N_IN + 54])))


def change_with_output_steps(model: SpatiotemporalFNO, test: sciml.data.FieldDataset) -> float:
    """Relative L2 between ten snapshots of the horizon and every fourth of forty."""
    inputs, context = jnp.asarray(test.values[0, :N_IN]), jnp.asarray(test.context[0])
    forty = model(inputs, N_OUT, context=context)
    ten = model(inputs, N_OUT // 4, context=context, dt_out=4 * test.dt)
    return float(relative_l2(ten, forty[3::4]))


if __name__ == "__main__":
    main(tyro.cli(Settings))
