"""Table of calls: layers of `sciml.nn` and models of `sciml.neural_operators`.

A model is checked by what any of its kind keeps: the shape, and where it is one, the symmetry or
the linearity.
"""

from typing import Any

import jax
import numpy as np
from hypothesis import strategies as st

from sciml import neural_operators, nn, numerics, problems

from .property_cases import add, close, numbers

_SEEDS = st.integers(0, 9)
_N = st.sampled_from((1, 4, 5))


def _key(seed: int) -> Any:
    return jax.random.key(seed)


def _has_shape(found: Any, shape: tuple) -> None:
    assert np.shape(found) == tuple(shape), f"shape {np.shape(found)}, expected {shape}"


def _f32(draw: Any, *shape: int) -> np.ndarray:
    return numbers(draw, *shape, dtype="float32")


def _channels(draw: Any) -> dict:
    return {
        "in_channels": 2,
        "out_channels": draw(st.integers(1, 3)),
        "v": _f32(draw, 2, draw(_N), 4),
    }


def _of_channels(found: Any, v: Any, out_channels: int, **_: Any) -> None:
    _has_shape(found, (out_channels, *np.shape(v)[1:]))


@add(
    "nn.ChannelLinear",
    lambda in_channels, out_channels, v, _seed: nn.ChannelLinear(
        in_channels, out_channels, key=_key(_seed)
    )(v),
    check=_of_channels,
)
def _(draw: Any) -> dict:
    return _channels(draw) | {"_seed": draw(_SEEDS)}


@add(
    "nn.ChannelMLP",
    lambda in_channels, out_channels, hidden_channels, v, _seed: nn.ChannelMLP(
        in_channels, out_channels, hidden_channels, key=_key(_seed)
    )(v),
    check=_of_channels,
)
def _(draw: Any) -> dict:
    return _channels(draw) | {"hidden_channels": draw(st.integers(1, 3)), "_seed": draw(_SEEDS)}


@add(
    "nn.Convolution",
    lambda in_channels, out_channels, kernel_size, periodic, v, _seed: nn.Convolution(
        in_channels, out_channels, kernel_size, periodic, key=_key(_seed)
    )(v),
    check=_of_channels,
)
def _(draw: Any) -> dict:
    periodic = (draw(st.booleans()), draw(st.booleans()))
    return _channels(draw) | {"kernel_size": 3, "periodic": periodic, "_seed": draw(_SEEDS)}


def _spectral(in_channels: int, out_channels: int, n_modes: Any, v: Any, _seed: int) -> Any:
    layer = nn.SpectralConv(in_channels, out_channels, n_modes, key=_key(_seed))
    return layer(v), layer(2 * np.asarray(v))


def _of_spectral(found: Any, v: Any, out_channels: int, **_: Any) -> None:
    _has_shape(found[0], (out_channels, *np.shape(v)[1:]))
    close(found[1], 2 * np.asarray(found[0]), rtol=1e-3)


@add("nn.SpectralConv", _spectral, check=_of_spectral)
def _(draw: Any) -> dict:
    n_modes = (draw(st.integers(1, 3)), draw(st.integers(1, 3)))
    return _channels(draw) | {"v": _f32(draw, 2, 5, 6), "n_modes": n_modes, "_seed": draw(_SEEDS)}


@add(
    "nn.FourierLayer",
    lambda channels, n_modes, mlp_channels, v, _seed: nn.FourierLayer(
        channels, n_modes, mlp_channels, key=_key(_seed)
    )(v),
    check=lambda found, v, **_: _has_shape(found, np.shape(v)),
)
def _(draw: Any) -> dict:
    return {
        "channels": 2,
        "n_modes": (2, draw(st.integers(1, 3))),
        "mlp_channels": 3,
        "v": _f32(draw, 2, draw(st.sampled_from((3, 8))), 5),
        "_seed": draw(_SEEDS),
    }


@add(
    "nn.PointMLP",
    lambda widths, normalise, v, _seed: nn.PointMLP(widths, normalise=normalise, key=_key(_seed))(
        v
    ),
    check=lambda found, v, widths, **_: _has_shape(found, (*np.shape(v)[:-1], widths[-1])),
)
def _(draw: Any) -> dict:
    return {
        "widths": (2, 3, draw(st.integers(1, 3))),
        "normalise": draw(st.booleans()),
        "v": _f32(draw, draw(_N), 2),
        "_seed": draw(_SEEDS),
    }


@add(
    "nn.UNet",
    lambda in_channels, out_channels, periodic, n_levels, v, _seed: nn.UNet(
        in_channels, out_channels, periodic, n_levels=n_levels, hidden_channels=2, key=_key(_seed)
    )(v),
    check=_of_channels,
)
def _(draw: Any) -> dict:
    return _channels(draw) | {
        "periodic": (True, draw(st.booleans())),
        "n_levels": 1,
        "v": _f32(draw, 2, draw(st.sampled_from((4, 6, 7))), 4),
        "_seed": draw(_SEEDS),
    }


@add(
    "nn.coordinate_channels",
    lambda n_points, periodic: nn.coordinate_channels(n_points, periodic, "float32"),
    check=lambda found, n_points, periodic: _has_shape(
        found, (nn.n_coordinate_channels(periodic), *n_points)
    ),
)
def _(draw: Any) -> dict:
    return {"n_points": (draw(_N), 4), "periodic": (draw(st.booleans()), True)}


def _of_standard(found: Any, v: Any) -> None:
    _has_shape(found, np.shape(v))
    assert abs(np.asarray(found, float).mean(-1)).max(initial=0) < 1e-2


add("nn.standardise", nn.standardise, check=_of_standard, follows="v")(
    lambda draw: {"v": numbers(draw, draw(_N), 4)}
)


def _fno(
    in_channels: int, out_channels: int, n_modes: Any, periodic: Any, v: Any, _seed: int
) -> Any:
    model = neural_operators.FNO(
        in_channels,
        out_channels,
        n_modes,
        hidden_channels=2,
        n_layers=1,
        periodic=periodic,
        key=_key(_seed),
    )
    return model(v)


@add("neural_operators.FNO", _fno, check=_of_channels)
def _(draw: Any) -> dict:
    return _channels(draw) | {
        "n_modes": (draw(st.integers(1, 2)), 2),
        "periodic": (draw(st.booleans()), True),
        "v": _f32(draw, 2, draw(st.sampled_from((3, 6))), 5),
        "_seed": draw(_SEEDS),
    }


def _sfno(inputs: Any, n_steps: int, dt: float, horizon: float, _seed: int) -> Any:
    model = neural_operators.SFNO(
        1,
        dt=dt,
        horizon=horizon,
        n_modes=(2, 2, 2),
        hidden_channels=2,
        n_layers=2,
        latent_steps=4,
        buffer_steps=1,
        key=_key(_seed),
    )
    return model(inputs, n_steps)


def _of_forecast(found: Any, inputs: Any, n_steps: int, **_: Any) -> None:
    _has_shape(found, (n_steps, *np.shape(inputs)[1:]))


_PAST = ("n_in", "n_history", "snapshots", "channels")


@add("neural_operators.SFNO", _sfno, check=_of_forecast, words=_PAST)
def _(draw: Any) -> dict:
    return {
        "inputs": _f32(draw, draw(st.integers(2, 3)), 1, 4, draw(st.sampled_from((4, 6)))),
        "n_steps": draw(st.integers(1, 3)),
        "dt": 0.1,
        "horizon": 1.0,
        "_seed": draw(_SEEDS),
    }


def _t1(in_channels: int, out_channels: int, n_modes: Any, v: Any, _seed: int) -> Any:
    model = neural_operators.TransformOnce(
        in_channels,
        out_channels,
        numerics.CosineBasis(n_modes),
        hidden_channels=3,
        n_layers=1,
        key=_key(_seed),
    )
    return model(v)


@add("neural_operators.TransformOnce", _t1, check=_of_channels, words=("basis", "u", "z", "grid"))
def _(draw: Any) -> dict:
    return _channels(draw) | {
        "n_modes": (draw(st.integers(1, 4)), 3),
        "v": _f32(draw, 2, 4, 5),
        "_seed": draw(_SEEDS),
    }


@add(
    "neural_operators.AutoregressiveFNO",
    lambda channels, n_in, n_modes, inputs, n_steps, _seed: neural_operators.AutoregressiveFNO(
        channels, n_in, n_modes, hidden_channels=2, n_layers=1, key=_key(_seed)
    )(inputs, n_steps),
    check=_of_forecast,
    words=_PAST,
)
def _(draw: Any) -> dict:
    return {
        "channels": 1,
        "n_in": 2,
        "n_modes": (2,),
        "inputs": _f32(draw, 2, 1, draw(st.sampled_from((3, 6)))),
        "n_steps": draw(st.integers(1, 3)),
        "_seed": draw(_SEEDS),
    }


def _of_rollout(found: Any, inputs: Any, n_steps: int, window: int) -> None:
    close(found, np.broadcast_to(np.asarray(inputs)[-1], np.shape(found)))
    _of_forecast(found, inputs, n_steps)


@add(
    "neural_operators.rollout",
    lambda inputs, n_steps, window: neural_operators.rollout(
        neural_operators.Persistence(), inputs, n_steps, window=window
    ),
    check=_of_rollout,
    follows="inputs",
)
def _(draw: Any) -> dict:
    return {
        "inputs": numbers(draw, 2, 1, 4),
        "n_steps": draw(st.integers(1, 4)),
        "window": draw(st.integers(1, 3)),
    }


def _burgers(n: int) -> Any:
    return problems.Burgers1D((n,), viscosity=0.1)


def _smooth(draw: Any, n_times: int, n: int) -> np.ndarray:
    x = 2 * np.pi * np.arange(n) / n
    shift = draw(st.sampled_from((0.0, 0.4)))
    decay = np.exp(-0.1 * (2 * np.pi) ** 2 * 0.01 * np.arange(n_times))[:, None, None]
    return (1e-3 * decay * np.sin(x + shift)[None, None]).astype(
        draw(st.sampled_from(("float32", "float64")))
    )


def _estimate(prediction: Any, inputs: Any, dt: float) -> Any:
    found = neural_operators.estimate(prediction, inputs, _burgers(8), dt=dt)
    return found.relative_eta, found.error


@add(
    "neural_operators.estimate",
    _estimate,
    words=("snapshots", "n_points"),
    check=lambda found, **_: _nonnegative(found),
)
def _(draw: Any) -> dict:
    u = _smooth(draw, 8, 8)
    return {"prediction": u[4:], "inputs": u[:4], "dt": 0.01}


def _nonnegative(found: Any) -> None:
    assert all(np.asarray(x).min() >= 0 for x in found)


def _refine(prediction: Any, inputs: Any, dt: float, rtol: float) -> Any:
    return neural_operators.refine(prediction, inputs, _burgers(8), dt=dt, rtol=rtol, throw=False)


def _of_refined(found: Any, prediction: Any, inputs: Any, dt: float, rtol: float) -> None:
    eta = neural_operators.estimate(
        found.value, np.asarray(inputs), _burgers(8), dt=dt
    ).relative_eta
    assert float(eta) < max(1e3 * rtol, 1e-5), f"success with a residual of {float(eta):.2g}"


@add(
    "neural_operators.refine",
    _refine,
    check=_of_refined,
    words=("float64", "snapshots", "n_points"),
)
def _(draw: Any) -> dict:
    u = _smooth(draw, 8, 8).astype("float64")
    return {"prediction": np.repeat(u[3:4], 4, 0), "inputs": u[:4], "dt": 0.01, "rtol": 1e-8}


@add(
    "neural_operators.simulate_measurements",
    lambda truth, stride, availability, noise_std, _seed: neural_operators.simulate_measurements(
        neural_operators.PointSensors.every((8,), stride),
        truth,
        availability=availability,
        noise_std=noise_std,
        key=_key(_seed),
    ),
    check=lambda found, truth, stride, **_: _has_shape(found[0], (len(truth), -(-8 // stride))),
)
def _(draw: Any) -> dict:
    return {
        "truth": _f32(draw, 3, 1, 8),
        "stride": draw(st.integers(1, 8)),
        "availability": 0.5,
        "noise_std": 0.1,
        "_seed": draw(_SEEDS),
    }


_INTERPOLANTS = {
    "NearestSample": lambda: neural_operators.NearestSample(),
    "ShepardInterpolant": lambda: neural_operators.ShepardInterpolant(2),
    "ThinPlateSpline": lambda: neural_operators.ThinPlateSpline(),
    "NoMotion": lambda: neural_operators.NoMotion(),
    "MovingLeastSquares": lambda: neural_operators.MovingLeastSquares(5),
}


def _moved(found: Any, queries: Any, samples: Any) -> None:
    _has_shape(found, (len(samples), *np.shape(queries)))
    close(found[0], queries, rtol=1e-4)


for _name, _make in _INTERPOLANTS.items():
    add(
        f"neural_operators.{_name}",
        lambda queries, samples, make=_make: make()(queries, samples),
        check=_moved,
        words=("query", "frame", "dim", "n_neighbours"),
    )(lambda draw: {"queries": numbers(draw, draw(_N), 2), "samples": numbers(draw, 3, 6, 2)})
