"""Table of calls: `sciml.numerics`, each against plain NumPy or an identity."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from sciml import numerics

from .property_cases import add, close, numbers

_SIZES = st.sampled_from((1, 2, 5, 8))
_EXTENTS = st.sampled_from((1.0, 6.5))


def _space(draw: Any, n_axes: int) -> tuple[int, ...]:
    return tuple(draw(_SIZES) for _ in range(n_axes))


def _field(draw: Any, n_axes: int | None = None, leading: tuple[int, ...] = (2,)) -> dict:
    n_axes = n_axes or draw(st.integers(1, 2))
    extent = tuple(draw(_EXTENTS) for _ in range(n_axes))
    return {"u": numbers(draw, *leading, *_space(draw, n_axes)), "domain_extent": extent}


def _plane(draw: Any, channels: int, name: str) -> dict:
    values = numbers(draw, 2, channels, *(draw(st.sampled_from((4, 5, 8))) for _ in range(2)))
    return {name: values, "domain_extent": (draw(_EXTENTS), draw(_EXTENTS))}


def _extents(u: np.ndarray, domain_extent: Any) -> tuple[float, ...]:
    return tuple(np.broadcast_to(np.asarray(domain_extent, float), np.shape(domain_extent) or (1,)))


def _symbol(u: np.ndarray, domain_extent: Any) -> list[np.ndarray]:
    """Return the wavenumbers of each axis, shaped to broadcast over the space axes."""
    extents = _extents(u, domain_extent)
    n = np.shape(u)[-len(extents) :]
    lines = [2 * np.pi * np.fft.fftfreq(m, e / m) for m, e in zip(n, extents, strict=True)]
    return list(np.meshgrid(*lines, indexing="ij"))


def _axes(domain_extent: Any) -> tuple[int, ...]:
    return tuple(range(-len(np.atleast_1d(domain_extent)), 0))


def _of_rfftn(found: Any, u: Any, n_dims: int) -> None:
    axes = range(-n_dims, 0)
    close(found, np.fft.rfftn(u, axes=axes, norm="forward"))


@add("numerics.rfftn", numerics.rfftn, check=_of_rfftn, follows="u")
def _(draw: Any) -> dict:
    return {"u": _field(draw, 2)["u"], "n_dims": draw(st.integers(1, 2))}


def _of_irfftn(found: Any, u_hat: Any, n_points: Any) -> None:
    axes = range(-len(n_points), 0)
    close(found, np.fft.irfftn(u_hat, n_points, axes=axes, norm="forward"))


@add("numerics.irfftn", numerics.irfftn, check=_of_irfftn, follows="u_hat")
def _(draw: Any) -> dict:
    n_points = _space(draw, 2)
    u = numbers(draw, 2, *n_points)
    dtype = np.complex64 if u.dtype == np.float32 else np.complex128
    return {
        "u_hat": np.fft.rfftn(u, axes=(-2, -1), norm="forward").astype(dtype),
        "n_points": n_points,
    }


def _of_laplacian(found: Any, u: Any, domain_extent: Any) -> None:
    k = _symbol(u, domain_extent)
    axes = _axes(domain_extent)
    spectrum = -sum(q**2 for q in k) * np.fft.fftn(u, axes=axes)
    close(found, np.fft.ifftn(spectrum, axes=axes).real)


@add("numerics.laplacian", numerics.laplacian, check=_of_laplacian, follows="u")
def _(draw: Any) -> dict:
    return _field(draw)


def _of_derivative(found: Any, u: Any, domain_extent: Any, axis: int, order: int) -> None:
    u = np.asarray(u, float)
    axis = axis - len(domain_extent)
    n, length = u.shape[axis], domain_extent[axis]
    k = 2 * np.pi * np.fft.fftfreq(n, length / n)
    if n % 2 == 0 and order % 2:
        k[n // 2] = 0
    symbol = ((1j * k) ** order).reshape(n, *(1,) * (-axis - 1))
    close(found, np.fft.ifft(symbol * np.fft.fft(u, axis=axis), axis=axis).real)


@add(
    "numerics.spectral_derivative",
    numerics.spectral_derivative,
    check=_of_derivative,
    follows="u",
)
def _(draw: Any) -> dict:
    return _field(draw, 2) | {"axis": draw(st.integers(0, 1)), "order": draw(st.integers(1, 3))}


def _of_wavenumbers(found: Any, n_points: Any, domain_extent: Any) -> None:
    n, extent = list(n_points), np.broadcast_to(domain_extent, len(n_points))
    assert len(found) == len(n)
    for axis, k in enumerate(found):
        f = np.fft.rfftfreq if axis == len(n) - 1 else np.fft.fftfreq
        close(abs(np.asarray(k).reshape(-1)), abs(2 * np.pi * f(n[axis], extent[axis] / n[axis])))


@add("numerics.wavenumbers", numerics.wavenumbers, check=_of_wavenumbers)
def _(draw: Any) -> dict:
    return {"n_points": _space(draw, 2), "domain_extent": (draw(_EXTENTS), draw(_EXTENTS))}


def _of_resample(found: Any, u: Any, n_points: Any) -> None:
    u = np.asarray(u)
    d = len(n_points)
    assert np.shape(found) == (*u.shape[: u.ndim - d], *n_points)
    axes = tuple(range(-d, 0))
    close(np.mean(found, axes), np.mean(u, axes), rtol=1e-3)


@add("numerics.fourier_resample", numerics.fourier_resample, check=_of_resample, follows="u")
def _(draw: Any) -> dict:
    return {"u": _field(draw, 2)["u"], "n_points": _space(draw, 2)}


def _pair(draw: Any) -> dict:
    u = _field(draw, 2)["u"]
    return {"prediction": numbers(draw, *u.shape, dtype=u.dtype), "truth": u}


def _of_relative_l2(found: Any, prediction: Any, truth: Any) -> None:
    p, t = np.asarray(prediction, float), np.asarray(truth, float)
    assert p.shape == t.shape
    assert np.shape(found) == ()
    if np.linalg.norm(t):
        close(found, np.linalg.norm(p - t) / np.linalg.norm(t))


@add(
    "numerics.relative_l2",
    numerics.relative_l2,
    check=_of_relative_l2,
    follows="truth",
    divides=("truth",),
)
def _(draw: Any) -> dict:
    return _pair(draw)


def _is_scalar(found: Any, **_: Any) -> None:
    assert np.shape(found) == ()
    assert np.all(np.asarray(found) >= 0)


@add(
    "numerics.relative_h1",
    numerics.relative_h1,
    check=_is_scalar,
    follows="truth",
    divides=("truth",),
)
def _(draw: Any) -> dict:
    return _pair(draw) | {"domain_extent": (draw(_EXTENTS), 1.0), "alpha": 1.0}


@add(
    "numerics.relative_error_curve",
    numerics.relative_error_curve,
    check=lambda found, prediction, **_: _has_length(found, np.shape(prediction)[0]),
    follows="truth",
    divides=("truth",),
)
def _(draw: Any) -> dict:
    pair = {k: v[:, None] for k, v in _pair(draw).items()}
    return pair | {
        "domain_extent": (1.0, draw(_EXTENTS)),
        "order": draw(st.sampled_from((-1.0, 0.0, 1.0))),
    }


def _has_length(found: Any, n: int) -> None:
    assert np.shape(found)[0] == n


@add(
    "numerics.normalised_mse",
    numerics.normalised_mse,
    check=_is_scalar,
    follows="truth",
    divides=("truth",),
)
def _(draw: Any) -> dict:
    u = numbers(draw, 3, 1, 4)
    return {
        "prediction": numbers(draw, 3, 1, 4, dtype=u.dtype),
        "truth": u,
        "mask": numbers(draw, 4) > -2,
        "pooled": draw(st.booleans()),
    }


def _of_sobolev(found: Any, u: Any, domain_extent: Any, order: float, alpha: float) -> None:
    axes = _axes(domain_extent)
    u = np.asarray(u, float)
    n = np.prod([u.shape[a] for a in axes])
    weight = (alpha + sum(k**2 for k in _symbol(u, domain_extent))) ** order
    energy = weight * abs(np.fft.fftn(u, axes=axes) / n) ** 2
    close(found, np.sqrt(np.prod(np.atleast_1d(domain_extent)) * energy.sum(axes)))


@add("numerics.sobolev_norm", numerics.sobolev_norm, check=_of_sobolev, follows="u")
def _(draw: Any) -> dict:
    return _field(draw) | {"order": draw(st.sampled_from((-1.0, 0.0, 1.0))), "alpha": 1.0}


@add(
    "numerics.bochner_norm",
    numerics.bochner_norm,
    check=lambda found, **_: _nonnegative(found),
    follows="u",
)
def _(draw: Any) -> dict:
    return _field(draw, 2, (4, 1)) | {"dt": 0.5, "order": draw(st.sampled_from((0.0, -1.0)))}


def _nonnegative(found: Any) -> None:
    assert (np.asarray(found) >= 0).all()


def _of_spectrum(found: Any, field: Any, domain_extent: Any) -> None:
    axes = tuple(range(-len(np.atleast_1d(domain_extent)) - 1, 0))
    half = 0.5 * np.mean(np.asarray(field, float) ** 2, axis=axes[1:]).sum(-1)
    close(np.sum(found[1], axis=-1), half, rtol=1e-3)


@add("numerics.energy_spectrum", numerics.energy_spectrum, check=_of_spectrum, follows="field")
def _(draw: Any) -> dict:
    return _plane(draw, 2, "field")


def _divergence(velocity: Any, domain_extent: Any) -> np.ndarray:
    velocity = np.asarray(velocity, float)
    k = _symbol(velocity, domain_extent)
    hat = np.fft.fft2(velocity)
    return abs(k[0] * hat[..., 0, :, :] + k[1] * hat[..., 1, :, :])


def _of_leray(found: Any, velocity: Any, domain_extent: Any) -> None:
    assert np.shape(found) == np.shape(velocity)
    size = np.abs(np.fft.fft2(np.asarray(velocity, float))).max(initial=1e-300)
    interior = _divergence(found, domain_extent)
    again = np.asarray(numerics.leray_project(found, domain_extent))
    close(again, found, rtol=1e-3)
    n = np.shape(velocity)[-2:]
    keep = np.ix_(*([j for j in range(m) if 2 * j != m] for m in n))  # without Nyquist
    assert interior[(..., *keep)].max(initial=0) <= 1e-2 * size


@add("numerics.leray_project", numerics.leray_project, check=_of_leray, follows="velocity")
def _(draw: Any) -> dict:
    return _plane(draw, 2, "velocity")


def _of_velocity(found: Any, vorticity: Any, domain_extent: Any) -> None:
    w = np.asarray(vorticity, float)
    assert np.shape(found) == (*w.shape[:-3], 2, *w.shape[-2:])
    if all(n % 2 for n in w.shape[-2:]):
        back = numerics.vorticity_from_velocity(found, domain_extent)
        close(back, w - w.mean((-2, -1), keepdims=True), rtol=1e-2)


@add(
    "numerics.velocity_from_vorticity",
    numerics.velocity_from_vorticity,
    check=_of_velocity,
    follows="vorticity",
)
def _(draw: Any) -> dict:
    return _plane(draw, 1, "vorticity")


def _same_but_channels(found: Any, *_: Any, **arguments: Any) -> None:
    (field,) = (v for k, v in arguments.items() if k != "domain_extent")
    assert np.shape(found) == (*np.shape(field)[:-3], 1, *np.shape(field)[-2:])


for _name in ("vorticity_from_velocity", "divergence"):
    add(
        f"numerics.{_name}", getattr(numerics, _name), check=_same_but_channels, follows="velocity"
    )(lambda draw: _plane(draw, 2, "velocity"))
add(
    "numerics.stream_function",
    numerics.stream_function,
    check=_same_but_channels,
    follows="vorticity",
)(lambda draw: _plane(draw, 1, "vorticity"))


def _of_truncated(found: Any, u: Any, n_modes: Any) -> None:
    u, d = np.asarray(u, float), len(n_modes)
    axes = tuple(range(-d, 0))
    n = [u.shape[a] for a in axes]
    full = np.fft.rfftn(u, axes=axes) / np.prod(n)
    keep = [[*range(k - m + 1, k), *range(m)] for m, k in zip(n_modes[:-1], n[:-1], strict=True)]
    close(found, full[(..., *np.ix_(*keep, range(n_modes[-1])))])


@add("numerics.truncated_rfftn", numerics.truncated_rfftn, check=_of_truncated, follows="u")
def _(draw: Any) -> dict:
    n_modes = tuple(draw(st.integers(1, 3)) for _ in range(2))
    return {
        "u": numbers(draw, 2, *(2 * m - 1 + draw(st.integers(0, 3)) for m in n_modes)),
        "n_modes": n_modes,
    }


def _of_truncated_inverse(found: Any, coefficients: Any, n_points: Any) -> None:
    shape = np.shape(coefficients)
    assert np.shape(found) == (*shape[:-2], *n_points)
    n_modes = (shape[-2] // 2 + 1, shape[-1])
    back = np.array(numerics.truncated_rfftn(found, n_modes))
    given = np.array(coefficients)
    # A real field has no more: of the first column only the Hermitian part counts.
    close(back[..., 1:], given[..., 1:], rtol=1e-3)


@add(
    "numerics.truncated_irfftn",
    numerics.truncated_irfftn,
    check=_of_truncated_inverse,
    follows="coefficients",
)
def _(draw: Any) -> dict:
    n_modes = tuple(draw(st.integers(1, 3)) for _ in range(2))
    n_points = tuple(2 * m - 1 + draw(st.integers(0, 3)) for m in n_modes)
    real = numbers(draw, 2, 2 * n_modes[0] - 1, n_modes[1])
    dtype = np.complex64 if real.dtype == np.float32 else np.complex128
    return {"coefficients": (real * (1 - 0.5j)).astype(dtype), "n_points": n_points}


def _of_matmul(found: Any, matrix: Any, v: Any, axis: int) -> None:
    v = np.moveaxis(np.asarray(v), axis, -2)
    close(found, np.moveaxis(np.asarray(matrix) @ v, -2, axis))


@add("numerics.matmul_along", numerics.matmul_along, check=_of_matmul, follows="v")
def _(draw: Any) -> dict:
    v = numbers(draw, 3, draw(st.sampled_from((1, 4))), 2)
    matrix = numbers(draw, draw(st.sampled_from((1, 3))), v.shape[1], dtype=v.dtype)
    return {"matrix": matrix, "v": v, "axis": 1}


def _of_series(found: Any, positions: Any, **_: Any) -> None:
    assert np.shape(found)[0] == np.shape(positions)[0]


@add(
    "numerics.trigonometric_interpolation_matrix",
    numerics.trigonometric_interpolation_matrix,
    check=lambda found, positions, n_nodes: close(
        np.sum(found, 1), np.ones(np.shape(positions)), rtol=1e-3
    ),
    follows="positions",
)
def _(draw: Any) -> dict:
    return {"positions": np.abs(numbers(draw, draw(_SIZES))) % 1, "n_nodes": draw(_SIZES)}


@add(
    "numerics.fourier_series_matrix",
    numerics.fourier_series_matrix,
    check=_of_series,
    follows="positions",
)
def _(draw: Any) -> dict:
    return {"positions": np.abs(numbers(draw, draw(_SIZES))) % 1, "n_modes": draw(_SIZES)}


def _of_rotation(found: Any, a: Any) -> None:
    q = np.asarray(found, float)
    close(q @ np.swapaxes(q, -1, -2), np.broadcast_to(np.eye(q.shape[-1]), q.shape), rtol=1e-3)


def _of_svd(found: Any, a: Any) -> None:
    u, s, v = (np.asarray(x, float) for x in found)
    close((u * s[..., None, :]) @ np.swapaxes(v, -1, -2), a, rtol=1e-3)


for _f, _check in ((numerics.polar_rotation, _of_rotation), (numerics.signed_svd, _of_svd)):
    add(f"numerics.{_f.__name__}", _f, check=_check, follows="a")(
        lambda draw: {"a": numbers(draw, 3, *(2 * [draw(st.sampled_from((2, 3)))]))}
    )


def _of_sine(found: Any, x: Any, f: Any) -> None:
    x = np.asarray(x)
    close(found, f(x.astype(float)))


for _f, _exact in ((numerics.sine, np.sin), (numerics.cosine, np.cos)):
    add(
        f"numerics.{_f.__name__}",
        _f,
        follows="x",
        check=lambda found, x, f=_exact: _of_sine(found, x, f),
    )(lambda draw: {"x": numbers(draw, draw(_SIZES))})


def _of_tail(found: Any, prediction: Any, truth: Any, tail: float) -> None:
    p, t = np.asarray(prediction, float), np.asarray(truth, float)
    if np.sum(t**2) + tail > 0:
        close(found, np.sqrt((np.sum((p - t) ** 2) + tail) / (np.sum(t**2) + tail)))


@add(
    "numerics.spectral_relative_l2",
    numerics.spectral_relative_l2,
    check=_of_tail,
    follows="truth",
    divides=("truth",),
)
def _(draw: Any) -> dict:
    return _pair(draw) | {"tail": 0.5}
