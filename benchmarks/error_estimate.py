"""Does the estimate follow the true error? Correlation, effectivity and bound on three equations.

    python benchmarks/error_estimate.py            # some minutes on one core
    python benchmarks/error_estimate.py --quick    # one trajectory each; nothing is written

For Navier-Stokes, Burgers and Kuramoto-Sivashinsky: forecasts (of a trained SFNO, of coarse
solvers, of solvers with a wrong coefficient, persistence) and perturbations of the truth (smooth
in time and not, of large and small scales), over five orders of magnitude of error. Then white
noise and frozen fields, which must look worse than every forecast of a model. Beside our residual
the one of the published code, which takes each snapshot's time derivative from that same snapshot.
"""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from refinement_cases import N_IN, SMOOTH, trained_sfno, truth_of
from scipy.stats import spearmanr

from sciml.core import Target, format_table, write_report
from sciml.neural_operators import SolverForecaster, estimate
from sciml.numerics import sobolev_norm
from sciml.problems import (
    ETDRK4,
    Burgers1D,
    IMEXCrankNicolson,
    KuramotoSivashinsky1D,
    NavierStokes2D,
    RK4CrankNicolson,
    solve,
)

RESULT = Path(__file__).parent / "results" / "error_estimate.json"
N_STEPS = 10


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seed: int = 41
    n_samples: int = 3
    """Trajectories of each equation."""
    quick: bool = False
    """One trajectory each and a model that is hardly trained; nothing is written."""
    out: Path = RESULT


@dataclasses.dataclass(frozen=True)
class Family:
    """An equation with trajectories, and forecasters of them."""

    name: str
    problem: object
    wrong_problems: tuple
    dt: float
    u: jax.Array
    model: object | None = None


def main(settings: Settings) -> None:
    """Estimate everything, print a table, write the result file."""
    jax.config.update("jax_enable_x64", True)
    n_samples = 1 if settings.quick else settings.n_samples
    rows, totals = [], []
    for family in (
        navier_stokes(settings, n_samples),
        burgers(settings, n_samples),
        kuramoto_sivashinsky(settings, n_samples),
    ):
        found = estimates_of(family, settings.seed)
        totals += found
        rows += summary(family.name, found)
    rows += summary("all three", totals)
    print(format_table(rows, {key: key for key in rows[0]}))
    targets = targets_of(rows)
    for target in targets:
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")
    if not settings.quick:
        write_report(
            settings.out,
            command="python benchmarks/error_estimate.py",
            rows=rows,
            targets=targets,
            settings={"seed": settings.seed, "n_samples": n_samples, "n_steps": N_STEPS},
        )
        print(f"written: {settings.out}")


def navier_stokes(settings, n_samples):
    """Return the flow of the FNO benchmark, with a trained SFNO among the forecasters."""
    model, _ = trained_sfno(SMOOTH, settings.seed, quick=settings.quick)
    problem = SMOOTH.recipe.problem()
    wrong = tuple(
        NavierStokes2D(problem.n_points, viscosity=factor * 1e-3, forcing=problem.forcing)
        for factor in (0.5, 1.1, 3.0)
    )
    u = truth_of(SMOOTH, n_samples, N_IN + N_STEPS, settings.seed + 3000)
    context = jnp.asarray(SMOOTH.recipe.context()[0])

    def forecast(inputs, n_steps):
        return model(inputs, n_steps, context=context)

    return Family("Navier-Stokes", problem, wrong, SMOOTH.recipe.dt, u, forecast)


def burgers(settings, n_samples):
    """Return waves that steepen into resolved shocks."""
    n, dt = 128, 0.02
    wrong = tuple(Burgers1D((n,), viscosity=nu) for nu in (0.005, 0.011, 0.03))
    problem = Burgers1D((n,), viscosity=0.01)
    u = random_trajectories(problem, settings.seed, n_samples, dt, every=40, warm_up=10)
    return Family("Burgers", problem, wrong, dt, u)


def kuramoto_sivashinsky(settings, n_samples):
    """Return chaos, after a warm-up."""
    n, dt = 64, 0.25
    problem = KuramotoSivashinsky1D((n,), domain_extent=22.0)
    wrong = tuple(KuramotoSivashinsky1D((n,), domain_extent=length) for length in (21.5, 22.2))
    u = random_trajectories(problem, settings.seed, n_samples, dt, every=20, warm_up=200)
    return Family("Kuramoto-Sivashinsky", problem, wrong, dt, u)


def random_trajectories(problem, seed, n_samples, dt, *, every, warm_up):
    """March random smooth fields; the warm-up is in units of snapshots."""
    rng = np.random.default_rng(seed)
    x = 2 * np.pi * np.arange(problem.n_points[0]) / problem.n_points[0]
    starts = [
        sum(rng.normal() / k * np.sin(k * x + rng.uniform(0, 2 * np.pi)) for k in (1, 2, 3))
        for _ in range(n_samples)
    ]
    n_snapshots = warm_up + N_IN + N_STEPS
    return jnp.stack(
        [
            solve(
                problem,
                jnp.asarray(start[None]),
                dt=dt / every,
                n_steps=every * (n_snapshots - 1),
                save_every=every,
            ).value[warm_up:]
            for start in starts
        ]
    )


def estimates_of(family, seed):
    """Estimate every forecast and perturbation of a family."""
    problem, dt = family.problem, family.dt
    call = jax.jit(lambda v, inputs, truth: estimate(v, inputs, problem, dt=dt, truth=truth))
    blind = jax.jit(lambda v: published_residual(problem, v))
    found = []
    for sample, values in enumerate(family.u):
        inputs, truth = values[:N_IN], values[N_IN:]
        rng = np.random.default_rng([seed, sample])
        for kind, label, v in candidates(family, inputs, truth, rng):
            if not bool(jnp.isfinite(v).all()):
                continue
            e = jax.device_get(call(v, inputs, truth))
            errors = np.asarray(sobolev_norm(v - truth, problem.domain_extent)[:, 0])
            found.append(
                {
                    "sample": f"{family.name} {sample}",
                    "kind": kind,
                    "label": label,
                    "true_error": float(e.true_error),
                    "true_relative": float(e.true_error * e.relative_error / e.error),
                    "eta": float(e.eta),
                    "relative_eta": float(e.relative_eta),
                    "error": float(e.error),
                    "relative_error": float(e.relative_error),
                    "effectivity": float(e.effectivity),
                    "violations": int(np.sum(errors > e.bound)),
                    "pessimism": float(np.sqrt(dt * np.sum(e.bound**2)) / e.true_error),
                    "published": float(blind(v)),
                }
            )
    return found


def candidates(family, inputs, truth, rng):
    """Yield wrong trajectories: kind, label, values."""
    n_steps = len(truth)
    if family.model is not None:
        yield "model", "SFNO", jax.jit(lambda u: family.model(u, n_steps))(inputs)
    for stepper in (IMEXCrankNicolson(), RK4CrankNicolson(), ETDRK4()):
        for substeps in (1, 2, 8):
            model = SolverForecaster(family.problem, stepper, family.dt, substeps=substeps)
            yield "model", f"{type(stepper).__name__} x{substeps}", model(inputs, n_steps)
    for wrong in family.wrong_problems:
        model = SolverForecaster(wrong, ETDRK4(), family.dt, substeps=8)
        yield "model", "wrong coefficient", model(inputs, n_steps)
    frozen = jnp.broadcast_to(inputs[-1], truth.shape)
    yield "frozen", "persistence", frozen
    size = float(jnp.std(truth))
    yield "noise", "white noise", jnp.asarray(size * rng.normal(size=truth.shape))
    ramp = (jnp.arange(1, n_steps + 1) / n_steps).reshape(-1, *(1,) * (truth.ndim - 1))
    shifted = jnp.roll(truth, truth.shape[-1] // 5, axis=-1) - truth
    for scale in (1e-4, 1e-3, 1e-2, 1e-1):
        yield "perturbation", f"towards frozen {scale:g}", truth + scale * (frozen - truth)
        yield "perturbation", f"shifted {scale:g}", truth + scale * ramp * shifted
        yield "perturbation", f"amplitude {scale:g}", truth * (1 + scale * ramp)
        rough = jnp.asarray(size * rng.normal(size=truth.shape))
        yield "perturbation", f"noise {scale:g}", truth + scale * rough


def published_residual(problem, u, delta=1e-6):
    """Return the value of the published formula."""
    stepper = IMEXCrankNicolson()

    def residual(u):
        u_hat = problem.to_spectral(u)
        ahead, behind = (
            stepper.step(problem, stepper.prepare(problem, h, u.dtype), u_hat)
            for h in (delta, -delta)
        )
        middle = 0.5 * (ahead + behind)
        return problem.to_physical((ahead - behind) / (2 * delta) - problem.rhs(middle))

    norms = sobolev_norm(jax.vmap(residual)(u), problem.domain_extent, -1)
    return jnp.sqrt(jnp.sum(norms**2))


def summary(name, found):
    """Return a row: correlations, effectivity, bound."""
    graded = [f for f in found if f["kind"] in ("model", "perturbation")]

    def rank(key, against="true_error"):
        return float(spearmanr([f[key] for f in graded], [f[against] for f in graded]).statistic)

    nonsense = [f for f in found if f["kind"] in ("frozen", "noise")]
    ratios = []
    for sample in {f["sample"] for f in found}:
        here = [f for f in nonsense if f["sample"] == sample]
        least = min(here, key=lambda f: f["true_relative"])
        # A forecast that is truly worse than standing still should look worse too.
        better = [
            f
            for f in found
            if f["sample"] == sample
            and f["kind"] == "model"
            and f["true_relative"] < least["true_relative"]
        ]
        worst = max(f["relative_error"] for f in better)
        ratios.append(worst / min(f["relative_error"] for f in here))
    effectivity = [f["effectivity"] for f in graded]
    return [
        {
            "family": name,
            "n": len(graded),
            "spearman_error_estimate": rank("relative_error", "true_relative"),
            "spearman_relative_eta": rank("relative_eta", "true_relative"),
            "spearman_published": rank("published"),
            "effectivity_5": float(np.quantile(effectivity, 0.05)),
            "effectivity_median": float(np.median(effectivity)),
            "effectivity_95": float(np.quantile(effectivity, 0.95)),
            "bound_violations": sum(f["violations"] for f in found),
            "bound_over_error_median": float(np.median([f["pessimism"] for f in graded])),
            "worst_model_over_best_nonsense": max(ratios),
        }
    ]


def targets_of(rows):
    """Return the figures that were promised."""
    pooled = rows[-1]
    return [
        Target("predictions and perturbations", pooled["n"], at_least=100),
        *(
            Target(
                f"Spearman correlation of the estimate with the error, {row['family']}",
                row["spearman_error_estimate"],
                at_least=0.9,
            )
            for row in rows
        ),
        *(
            Target(
                f"Spearman correlation of the relative residual with the error, {row['family']}",
                row["spearman_relative_eta"],
                at_least=0.9,
            )
            for row in rows
        ),
        Target("snapshots at which the bound is violated", pooled["bound_violations"], at_most=0),
        *(
            Target(
                "largest estimate of a forecast better than standing still over the least of noise "
                f"and frozen, {row['family']}",
                row["worst_model_over_best_nonsense"],
                at_most=1.0,
            )
            for row in rows[:-1]
        ),
    ]


if __name__ == "__main__":
    main(tyro.cli(Settings, description=__doc__))
