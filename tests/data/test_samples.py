"""The shipped sample: it is what it says, on any grid, and it solves the equation."""

import time

import numpy as np
import pytest

from sciml.data import DataFileError, VorticitySymmetries, load
from sciml.data._samples import _find
from sciml.data._spectral_file import (
    from_coefficients,
    half_plane_modes,
    read_spectral,
    to_coefficients,
    write_spectral,
)
from sciml.numerics import relative_l2
from sciml.problems import NavierStokes2D, fno_forcing, solve


@pytest.fixture(scope="module")
def splits():
    return load("navier-stokes")


def test_sizes_and_facts(splits):
    sizes = {name: part.values.shape for name, part in splits.items()}
    shape = (64, 1, 64, 64)
    assert sizes == {"train": (48, *shape), "validation": (8, *shape), "test": (8, *shape)}
    data = splits.train
    assert (data.dt, data.start_time, data.values.dtype) == (0.2, 10.0, np.float32)
    assert data.attributes["truncation_error_max"] < 1e-4
    assert data.attributes["solver_error"] < 1e-6
    np.testing.assert_allclose(data.context[0], fno_forcing((64, 64)), atol=1e-6)
    assert _find("navier_stokes.npz").stat().st_size < 10e6


def test_loading_is_fast():
    start = time.process_time()
    load("navier-stokes")
    assert time.process_time() - start < 0.5


def test_no_trajectory_is_there_twice(splits):
    first = np.concatenate([part.values[:, 0, 0, ::8, ::8] for _, part in splits.items()])
    first = first.reshape(len(first), -1)
    distances = np.linalg.norm(first[:, None] - first[None], axis=-1) + 1e9 * np.eye(len(first))
    assert distances.min() > 0.05 * np.linalg.norm(first, axis=-1).mean()


def test_every_grid_shows_the_same_function(splits):
    """Striding the fine grid gives the coarse one: values at points, not filtered ones."""
    coarse = load("navier-stokes", n_points=16)
    np.testing.assert_allclose(coarse.test.values, splits.test.values[..., ::4, ::4], atol=2e-6)
    fine = splits.test.select([0]).slice_times(0, 2)
    np.testing.assert_allclose(
        load("navier-stokes", n_points=96).test.values[:1, :2],
        fine.resample(96).values,
        atol=5e-6,
    )


def test_trajectories_solve_the_equation(x64):
    """Marching from a snapshot meets the others up to the recorded truncation."""
    data = load("navier-stokes", n_points=40).test
    problem = NavierStokes2D((40, 40), viscosity=1e-3, forcing=data.context[0].astype(float))
    run = solve(problem, data.values[0, 0].astype(float), dt=0.1, n_steps=10, save_every=2)
    truth = data.values[0, :6].astype(float)
    assert relative_l2(run.value, truth) < 2 * data.attributes["truncation_error_max"]


@pytest.mark.parametrize(("rotate", "transpose"), [(True, False), (False, True)])
def test_augmented_trajectories_solve_the_equation(rotate, transpose, x64):
    """With the shifts for the FNO forcing the image is a solution for the same forcing."""
    symmetries = VorticitySymmetries.for_fno_forcing()
    data = load("navier-stokes", n_points=40).test
    image = symmetries.apply(data.values[1, :6].astype(float), rotate=rotate, transpose=transpose)
    problem = NavierStokes2D((40, 40), viscosity=1e-3, forcing=data.context[0].astype(float))
    run = solve(problem, image[0], dt=0.1, n_steps=10, save_every=2)
    assert relative_l2(run.value, image) < 1e-4
    unsigned = -image if transpose else np.roll(image, 1, -1)
    run = solve(problem, unsigned[0], dt=0.1, n_steps=10, save_every=2)
    assert relative_l2(run.value, unsigned) > 1e-3


@pytest.mark.parametrize("n_points", [1, 5, 12, 33])
def test_series_is_evaluated_exactly_at_any_points(n_points):
    modes = half_plane_modes(3)
    rng = np.random.default_rng(2029)
    fields = rng.normal(size=(2, 10, 10))
    coefficients = to_coefficients(fields, modes)
    x = np.arange(n_points) / n_points
    spectrum = np.fft.fft2(fields, norm="forward")
    expected = np.zeros((2, n_points, n_points))
    for k in range(-3, 4):
        for m in range(-3, 4):
            if k * k + m * m <= 9:
                wave = np.exp(2j * np.pi * (k * x[:, None] + m * x[None, :]))
                expected += np.real(spectrum[:, k, m, None, None] * wave)
    np.testing.assert_allclose(
        from_coefficients(coefficients, modes, n_points), expected, atol=1e-6
    )


def test_damaged_samples_are_named(tmp_path):
    small = load("navier-stokes", n_points=12)
    path = write_spectral(tmp_path / "s.npz", small, max_wavenumber=4, attributes={"note": "toy"})
    assert read_spectral(path, 12).train.attributes["note"] == "toy"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataFileError, match="damaged or incomplete"):
        read_spectral(path, 12)
    path.write_bytes(content)
    with np.load(path) as file:
        arrays = dict(file)
    arrays["test/values"][0, 0, 0, 0, 0] += 1
    np.savez(path, **arrays)
    with pytest.raises(DataFileError, match="'test/values': the checksum differs"):
        read_spectral(path, 12)
    with pytest.raises(ValueError, match="below half the number of points"):
        write_spectral(path, small, max_wavenumber=6, attributes={})


def test_bad_grids_are_named():
    with pytest.raises(ValueError, match="`n_points` must be at least 1"):
        load("navier-stokes", n_points=0)


def test_an_incomplete_installation_says_where_it_looked():
    with pytest.raises(FileNotFoundError, match=r"absent\.npz is neither at .* reinstall sciml"):
        _find("absent.npz")
