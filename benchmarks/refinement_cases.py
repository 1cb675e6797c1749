"""Flows and forecasters that the benchmarks of refinement share: data, trained SFNOs, truth.

Truth is solved in float64 with five times as many steps as the training data. A trained model is
kept under runs/benchmarks, so that several benchmarks use one training run.
"""

import dataclasses
import hashlib
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import sciml
from sciml.data import (
    Forcing,
    GaussianNormaliser,
    InitialField,
    NavierStokesRecipe,
    VorticitySymmetries,
    generate_navier_stokes,
)
from sciml.neural_operators import SpatiotemporalFNO
from sciml.problems import solve
from sciml.train import fit, one_cycle_adam

N_IN, N_OUT = 10, 40
CACHE = Path("runs") / "benchmarks"


@dataclasses.dataclass(frozen=True)
class Case:
    """A flow, and how SFNO is trained on it."""

    name: str
    recipe: NavierStokesRecipe
    train_points: int = 32
    n_modes: tuple[int, int, int] = (6, 10, 10)
    n_train: int = 32
    n_steps: int = 400
    truth_refinement: int = 5
    substeps: int = 2
    """Steps of ETDRK4 between snapshots in the residual: about as many as marching needs."""


SMOOTH = Case(
    "viscosity 1e-3",
    NavierStokesRecipe(),
    train_points=16,
    n_modes=(6, 6, 6),
    n_train=64,
    n_steps=1200,
)
HARD = (
    Case("viscosity 1e-3, no warm-up", NavierStokesRecipe(warm_up=0.0)),
    Case(
        "viscosity 1e-4, no warm-up",
        NavierStokesRecipe(viscosity=1e-4, warm_up=0.0, solver_dt=0.02),
        substeps=4,
    ),
    Case(
        "McWilliams Re 1000",
        NavierStokesRecipe(
            dt=0.055,
            solver_dt=0.011,
            warm_up=4.4,
            forcing=Forcing.NONE,
            initial_field=InitialField.MCWILLIAMS,
            domain_extent=2 * np.pi,
        ),
        substeps=4,
    ),
    Case(
        "Kolmogorov",
        NavierStokesRecipe(
            dt=0.1,
            solver_dt=0.01,
            warm_up=4.0,
            drag=0.1,
            forcing=Forcing.KOLMOGOROV,
            initial_field=InitialField.KOLMOGOROV,
            domain_extent=2 * np.pi,
        ),
        substeps=8,
    ),
)
# No model of its own: that of Re 1000 forecasts it, on a grid twice as fine.
OUT_OF_DISTRIBUTION = Case(
    "McWilliams Re 5000",
    dataclasses.replace(HARD[2].recipe, viscosity=2e-4, n_points=128, solver_dt=0.0055),
    truth_refinement=2,
    substeps=6,
)


def truth_of(case: Case, n_samples: int, n_snapshots: int, seed: int) -> jax.Array:
    """Return trajectories ``(sample, time, 1, x, y)`` in float64; call it with float64 on."""
    recipe, problem = case.recipe, case.recipe.problem()
    solver_dt = recipe.solver_dt / case.truth_refinement
    every = round(recipe.dt / solver_dt)

    @jax.jit
    def trajectory(key):
        start = recipe.initial_field.draw(recipe.grid, recipe.domain_extent, key)
        if recipe.warm_up:
            n_steps = recipe.warm_up_steps * case.truth_refinement
            start = solve(
                problem, start, dt=solver_dt, n_steps=n_steps, save_every=n_steps, throw=False
            ).value[-1]
        steps = every * (n_snapshots - 1)
        return solve(
            problem, start, dt=solver_dt, n_steps=steps, save_every=every, throw=False
        ).value

    keys = jax.random.split(jax.random.key(seed), n_samples)
    values = jnp.stack([trajectory(key) for key in keys])
    if not bool(jnp.isfinite(values).all()):
        raise RuntimeError(f"the truth of {case.name!r} blew up.")
    return values


def trained_sfno(case: Case, seed: int, *, quick: bool = False) -> tuple[SpatiotemporalFNO, float]:
    """Return an SFNO for 10 snapshots in and 40 out, and its CPU seconds of training.

    Training runs in float32 on trajectories of their own seeds.
    """
    if quick:
        case = dataclasses.replace(case, n_train=4, n_steps=10)
    digest = hashlib.sha256(repr((case, seed)).encode()).hexdigest()[:12]
    path = CACHE / f"sfno-{digest}"
    if path.is_dir():
        return sciml.load(path), float((path / "cpu_seconds.txt").read_text())
    with jax.enable_x64(True):
        splits = generate_navier_stokes(
            None, n_train=case.n_train, n_validation=1, n_test=1, seed=seed, recipe=case.recipe
        )
    begin = time.process_time()
    data = splits.resample(case.train_points).train
    has_forcing = case.recipe.forcing is not Forcing.NONE
    transform = (
        VorticitySymmetries.for_fno_forcing() if case.recipe.forcing is Forcing.FNO else None
    )
    with jax.enable_x64(False):
        model = SpatiotemporalFNO(
            1,
            dt=data.dt,
            horizon=N_OUT * data.dt,
            n_modes=case.n_modes,
            hidden_channels=12,
            context_channels=int(has_forcing),
            normaliser=GaussianNormaliser.fit(data),
            key=jax.random.key(seed),
        )
        batches = data.windows(N_IN, N_OUT, batch_size=4, seed=seed, transform=transform)
        optimizer = one_cycle_adam(1e-2, case.n_steps)
        model = fit(
            model, batches, optimizer=optimizer, n_steps=case.n_steps, key=jax.random.key(seed)
        ).value
    seconds = time.process_time() - begin
    path.parent.mkdir(parents=True, exist_ok=True)
    sciml.save(path, model)
    (path / "cpu_seconds.txt").write_text(f"{seconds:.1f}\n")
    return model, seconds
