"""Make data/navier_stokes.npz, the sample that ships with sciml.

Run it with ``python data/make_navier_stokes.py`` from the root of the repository.

Trajectories of the Navier-Stokes equation in vorticity form with the forcing of the FNO
benchmark, solved in float64, stored as truncated Fourier series. The script measures what the
time step and the truncation cost, and writes both into the file.
"""

from pathlib import Path

import jax
import numpy as np

jax.config.update("jax_enable_x64", True)

from sciml.data import DatasetSplits, NavierStokesRecipe, generate_navier_stokes
from sciml.data._spectral_file import read_spectral, write_spectral

SEED = 20261
COUNTS = {"n_train": 48, "n_validation": 8, "n_test": 8}
RECIPE = NavierStokesRecipe()
MAX_WAVENUMBER = 13
TARGET = Path(__file__).parent / "navier_stokes.npz"


def relative_l2(values: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the error of each trajectory over space and time."""
    axes = tuple(range(1, values.ndim))
    difference = values.astype(np.float64) - reference
    return np.sqrt(np.sum(difference**2, axes) / np.sum(reference.astype(np.float64) ** 2, axes))


def solver_error() -> float:
    """Return the largest error of four trajectories against a five times smaller time step."""
    fine = NavierStokesRecipe(solver_dt=0.02)
    options = {"n_train": 4, "seed": SEED, "batch_size": 4, "progress": False}
    coarse = generate_navier_stokes(None, recipe=RECIPE, **options)
    reference = generate_navier_stokes(None, recipe=fine, **options)
    return float(relative_l2(coarse.train.values, reference.train.values).max())


def main() -> None:
    """Generate, measure, write, read back."""
    splits = generate_navier_stokes(None, seed=SEED, recipe=RECIPE, **COUNTS)
    facts = {
        "max_wavenumber": MAX_WAVENUMBER,
        "solver_error": solver_error(),
    }
    write_spectral(TARGET, splits, max_wavenumber=MAX_WAVENUMBER, attributes=facts)
    stored = read_spectral(TARGET, RECIPE.n_points)
    errors = truncation_errors(stored, splits)
    facts["truncation_error_max"] = float(errors.max())
    facts["truncation_error_mean"] = float(errors.mean())
    write_spectral(TARGET, splits, max_wavenumber=MAX_WAVENUMBER, attributes=facts)
    for name, value in facts.items():
        print(f"{name}: {value:.3g}")
    print(f"{TARGET.name}: {TARGET.stat().st_size / 1e6:.2f} MB")


def truncation_errors(stored: DatasetSplits, splits: DatasetSplits) -> np.ndarray:
    """Return the error of every stored trajectory."""
    pairs = zip(stored.items(), splits.items(), strict=True)
    return np.concatenate([relative_l2(a.values, b.values) for (_, a), (_, b) in pairs])


if __name__ == "__main__":
    main()
