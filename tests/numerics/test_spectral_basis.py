"""Spectral bases: orthonormal on every grid, equal to the transforms they stand for, refusals."""

import itertools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.fft

from sciml.numerics import (
    CosineBasis,
    FourierBasis,
    GridPoints,
    MatrixBasis,
    SineBasis,
    relative_l2,
    spectral_relative_l2,
)

BASES = (CosineBasis, SineBasis, FourierBasis)
each_basis = pytest.mark.parametrize("kind", BASES)
each_points = pytest.mark.parametrize("points", GridPoints)


@each_basis
@each_points
def test_functions_are_orthonormal_for_any_parity(kind, points):
    for n in (1, 8, 9):
        for m in {1, min(5, n), n}:
            functions = kind((m,), points=points).functions(0, n)
            np.testing.assert_allclose(functions @ functions.T / n, np.eye(m), atol=1e-13)


@pytest.mark.parametrize(
    ("kind", "transform"), [(CosineBasis, scipy.fft.dctn), (SineBasis, scipy.fft.dstn)]
)
def test_coefficients_are_those_of_the_transform_library(x64, kind, transform):
    u = np.random.default_rng(41).normal(size=(2, 7, 8))
    z = kind((5, 6)).encode(jnp.asarray(u))
    expected = transform(u, axes=(1, 2), norm="ortho")[:, :5, :6] / np.sqrt(7 * 8)
    np.testing.assert_allclose(z, expected, atol=1e-14)


def test_fourier_coefficients_are_those_of_the_fft(x64):
    u = np.random.default_rng(43).normal(size=(1, 10))
    z = FourierBasis((7,)).encode(jnp.asarray(u))[0]
    spectrum = np.fft.rfft(u[0], norm="forward")
    cosines, sines = np.sqrt(2) * spectrum.real, -np.sqrt(2) * spectrum.imag
    expected = [spectrum[0].real, cosines[1], sines[1], cosines[2], sines[2], cosines[3], sines[3]]
    np.testing.assert_allclose(z, expected, atol=1e-14)


@each_basis
@pytest.mark.parametrize("grid", [(9,), (6, 7), (4, 5, 6)])
def test_round_trip_and_parseval(x64, kind, grid):
    u = jnp.asarray(np.random.default_rng(47).normal(size=(2, *grid)))
    full = kind(grid)
    np.testing.assert_allclose(full.decode(full.encode(u), grid), u, atol=1e-12)
    assert float(full.tail_energy(u)) < 1e-28

    basis = kind((3,) * len(grid))
    z = basis.encode(u)
    total = jnp.sum(jnp.mean(u**2, axis=tuple(range(1, u.ndim))))
    np.testing.assert_allclose(jnp.sum(z**2) + basis.tail_energy(u), total, rtol=1e-13)
    np.testing.assert_allclose(basis.encode(basis.decode(z, grid)), z, atol=1e-13)


@each_basis
@each_points
def test_coefficients_do_not_depend_on_the_grid(x64, kind, points):
    def field(n):
        x = (np.arange(n) + (0.5 if points is GridPoints.CELLS else 0.0)) / n
        return jnp.asarray(np.exp(np.sin(2 * np.pi * x) - 0.3 * np.cos(2 * np.pi * x)))[None]

    coarse, fine, finest = (kind((6,), points=points).encode(field(n)) for n in (64, 128, 256))
    # Cosines and sines of the odd kind see a kink at the boundary: the rule is of second order.
    bound = 1e-14 if kind is FourierBasis else 3e-3
    assert float(jnp.abs(coarse - fine).max()) < bound
    assert float(jnp.abs(fine - finest).max()) < bound / 3 + 1e-14


def test_the_spectral_error_is_that_of_the_decoded_field(x64):
    rng = np.random.default_rng(53)
    truth, z = jnp.asarray(rng.normal(size=(2, 9, 8))), jnp.asarray(rng.normal(size=(2, 4, 5)))
    for basis in (CosineBasis((4, 5)), FourierBasis((4, 5)), SineBasis((4, 5))):
        error = spectral_relative_l2(z, basis.encode(truth), basis.tail_energy(truth))
        np.testing.assert_allclose(error, relative_l2(basis.decode(z, (9, 8)), truth), rtol=1e-13)
    zero = jnp.zeros((1, 3))
    assert float(spectral_relative_l2(zero, zero, 0.0)) == 0.0
    assert float(spectral_relative_l2(zero + 1, zero, 0.0)) == np.inf


@each_basis
def test_modes_from_the_energy_keep_the_bound_and_are_fewest(kind):
    rng = np.random.default_rng(59)
    decay = 1 / (1.0 + np.arange(12)[:, None] ** 2 + 3 * np.arange(10) ** 2)
    z = (rng.normal(size=(6, 2, 12, 10)) * decay).astype(np.float32)
    us = np.stack([np.asarray(kind((12, 10)).decode(jnp.asarray(c), (14, 12))) for c in z])
    basis = kind.from_energy(us, 0.2)

    def lost(modes):
        outside = z**2
        outside[:, :, : modes[0], : modes[1]] = 0
        return np.sqrt(np.max(outside.sum((0, 2, 3)) / (z**2).sum((0, 2, 3))))

    assert lost(basis.n_modes) <= 0.2
    fewer = [(a, b) for a in range(1, 13) for b in range(1, 11) if a * b < np.prod(basis.n_modes)]
    assert min(lost(modes) for modes in fewer) > 0.2
    errors = [float(basis.truncation_error(jnp.asarray(u))) for u in us[:2]]
    assert 0.05 < np.mean(errors) < 0.4


def test_principal_components_are_the_best_basis(x64):
    rng = np.random.default_rng(61)
    us = rng.normal(size=(30, 1, 3)) @ rng.normal(size=(3, 40)) + 1e-3 * rng.normal(
        size=(30, 1, 40)
    )
    basis = MatrixBasis.from_energy(us.reshape(30, 1, 5, 8), 0.05)
    assert basis.n_modes == (3,)
    assert basis.matrix.shape == (3, 5, 8)
    u = jnp.asarray(us[4].reshape(1, 5, 8))
    z = basis.encode(u)
    np.testing.assert_allclose(jnp.sum(z**2) + basis.tail_energy(u), jnp.mean(u**2), rtol=1e-12)
    assert float(basis.truncation_error(u)) < 1e-2
    assert basis == MatrixBasis(basis.matrix.copy())  # constants compare by value
    ones = basis.decode(jnp.asarray(basis.position_fields()[:1]), (5, 8))
    assert ones.shape == (1, 5, 8)


def test_position_fields_decode_to_the_coordinates(x64):
    n = 24
    fields = CosineBasis((16, 16)).decode(
        jnp.asarray(CosineBasis((16, 16)).position_fields()), (n, n)
    )
    x = (np.arange(n) + 0.5) / n
    np.testing.assert_allclose(fields[0], 1.0, atol=1e-12)
    np.testing.assert_allclose(fields[1], np.broadcast_to(x[:, None], (n, n)), atol=2e-2)
    np.testing.assert_allclose(fields[2], np.broadcast_to(x, (n, n)), atol=2e-2)
    fourier = FourierBasis((3, 3)).position_fields()
    assert fourier.shape == (5, 3, 3)


def test_bad_input_is_refused():
    basis = CosineBasis((4, 4))
    with pytest.raises(ValueError, match=r"axis 1 has 3 points and cannot hold n_modes\[1\]=4"):
        basis.encode(jnp.ones((1, 8, 3)))
    with pytest.raises(ValueError, match="must have 3 axes"):
        basis.encode(jnp.ones((1, 8)))
    with pytest.raises(TypeError, match="real and imaginary parts as two channels"):
        basis.encode(jnp.ones((1, 8, 8), jnp.complex64))
    with pytest.raises(ValueError, match="points of each of the 2 axes"):
        basis.decode(jnp.ones((1, 4, 4)), (8,))
    with pytest.raises(ValueError, match="`z`"):
        basis.decode(jnp.ones((1, 4, 5)), (8, 8))
    with pytest.raises(ValueError, match="got none"):
        CosineBasis(())
    with pytest.raises(ValueError, match="at least 1"):
        FourierBasis((0,))
    us = np.ones((2, 1, 8), np.float32)
    with pytest.raises(ValueError, match="below 1"):
        CosineBasis.from_energy(us, 1.5)
    with pytest.raises(ValueError, match="channel 0 of `us` is zero"):
        CosineBasis.from_energy(0 * us, 0.1)
    with pytest.raises(ValueError, match="field 1 is not"):
        CosineBasis.from_energy(us * np.array([1, np.nan], np.float32)[:, None, None], 0.1)
    with pytest.raises(ValueError, match="orthonormal in the mean"):
        MatrixBasis(np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"known on the grid \(4,\) only"):
        MatrixBasis(np.ones((1, 4))).decode(jnp.ones((1, 1)), (8,))


def _random_weight(basis, n_out, n_in, seed):
    rng = np.random.default_rng(seed)
    shape = (*basis.mixing_shape, n_out, n_in)
    return jnp.asarray(rng.normal(size=shape) / np.sqrt(shape[1] * n_in))


@pytest.mark.parametrize("modes", [(7,), (5, 7), (3, 5, 3)])
def test_mixing_plane_waves_commutes_with_shifts_and_can_be_one(x64, modes):
    basis, grid = FourierBasis(modes), tuple(2 * m for m in modes)
    z = jnp.asarray(np.random.default_rng(59).normal(size=(2, *modes)))
    shift, axes = tuple(range(1, len(modes) + 1)), tuple(range(1, len(modes) + 1))

    weight = _random_weight(basis, 3, 2, 61)
    moved = basis.encode(jnp.roll(basis.decode(z, grid), shift, axes))
    then = basis.decode_mixed(weight, moved, grid)
    first = jnp.roll(basis.decode_mixed(weight, z, grid), shift, axes)
    np.testing.assert_allclose(then, first, atol=1e-12)

    # The phase factors of that shift, wave by wave: signs of the later frequencies, then all.
    later = [np.arange(m // 2 + 1) for m in modes[1:]]
    angles = []
    for signs in itertools.product((1, -1), repeat=len(modes) - 1):
        signed = [s * k for s, k in zip(signs, later, strict=True)]
        waves = np.meshgrid(np.arange(modes[0] // 2 + 1), *signed, indexing="ij")
        turns = [k * s / n for k, s, n in zip(waves, shift, grid, strict=True)]
        angles.append(2 * np.pi * sum(turns))
    angle = np.concatenate([a.ravel() for a in angles])
    phase = np.stack([np.cos(angle), np.sin(angle)], 1)[..., None, None] * np.eye(2)
    np.testing.assert_allclose(
        basis.decode_mixed(jnp.asarray(phase), z, grid), basis.decode(moved, grid), atol=1e-12
    )


@pytest.mark.parametrize("kind", [CosineBasis, SineBasis])
@each_points
def test_mixing_into_conjugates_can_take_derivatives(x64, kind, points):
    basis = kind((5, 4), points=points)
    z = jnp.asarray(np.random.default_rng(67).normal(size=(1, 5, 4)))
    # The derivative along the first axis: -k sin for cos, k cos for sin.
    first = 0 if kind is CosineBasis else 1
    k = np.pi * np.arange(first, 5 + first) * (-1 if kind is CosineBasis else 1)
    weight = np.zeros((5, 4, 4, 1, 1))
    weight[:, :, 2, 0, 0] = k[:, None]  # conjugate along the first axis, function along the second
    found = basis.decode_mixed(jnp.asarray(weight.reshape(20, 4, 1, 1)), z, (12, 10))
    step = 1e-6
    x = (np.arange(12) + 0.5) / 12
    both = [
        (np.cos if kind is CosineBasis else np.sin)(
            np.outer(np.arange(first, 5 + first), np.pi * s)
        )
        for s in (x + step, x - step)
    ]
    slope = np.sqrt(2) * (both[0] - both[1]) / (2 * step)
    if points is GridPoints.PERIODIC:
        cells = kind((12, 12)).functions(0, 12)
        slope = slope @ cells.T @ kind((12, 12), points=points).functions(0, 12) / 12
    expected = np.einsum("cxy,xi,yj->cij", z, slope, basis.functions(1, 10))
    np.testing.assert_allclose(found, expected, atol=1e-7)


@pytest.mark.parametrize(
    "basis",
    [
        CosineBasis((6, 5)),
        SineBasis((6, 5)),
        FourierBasis((5, 7)),
        MatrixBasis(np.eye(6, 12) * np.sqrt(12)),
    ],
    ids=lambda basis: type(basis).__name__,
)
def test_mixing_keeps_the_energy_and_refuses_other_shapes(x64, basis):
    rng = np.random.default_rng(71)
    z = jnp.asarray(rng.normal(size=(200, *basis.n_modes)))
    grid = basis.product_grid
    weight = _random_weight(basis, 200, 200, 73)
    found = basis.decode_mixed(weight, z, grid)
    # Conjugates are orthonormal, too, but for those that are zero.
    energy = float(jnp.mean(found**2)) / float(jnp.mean(basis.decode(z, grid) ** 2))
    assert 0.75 < energy < 1.1
    half = basis.decode_mixed(weight.astype(jnp.float16), z.astype(jnp.float16), grid)
    assert half.dtype == jnp.float16
    with pytest.raises(ValueError, match="`weight`"):
        basis.decode_mixed(weight[1:], z, grid)
    with pytest.raises(ValueError, match="`z`"):
        basis.decode_mixed(weight, z[:, 1:], grid)
