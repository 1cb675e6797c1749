"""Table of calls: `sciml.data` and `sciml.train`."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from sciml import data, neural_operators, numerics, train
from sciml.data import FieldDataset, GaussianNormaliser, Trajectory

from .property_cases import add, close, numbers

_ORDERS = ("sample time channel x", "x time sample channel", "time x channel sample")


def _dataset(values: Any, dt: float = 0.5, domain_extent: Any = 2.0) -> FieldDataset:
    return FieldDataset.from_array(values, dt=dt, domain_extent=domain_extent)


def _of_array(found: FieldDataset, values: Any, axis_order: str, dt: float, **_: Any) -> None:
    words = (axis_order or "sample time channel x").split()
    standard = ["sample", "time", "channel", *(w for w in words if w in "xyz")]
    wanted = np.transpose(np.asarray(values), [words.index(w) for w in standard])
    assert found.values.dtype.kind == "f", f"dtype {found.values.dtype} was taken"
    close(found.values, wanted)
    assert found.dt == dt


@add(
    "data.FieldDataset.from_array",
    FieldDataset.from_array,
    check=_of_array,
    follows=None,
    words=("channel", "axis", "axes"),
)
def _(draw: Any) -> dict:
    order = draw(st.sampled_from(_ORDERS))
    sizes = {"sample": 3, "time": 4, "channel": 2, "x": draw(st.sampled_from((1, 5)))}
    return {
        "values": numbers(draw, *(sizes[word] for word in order.split())),
        "axis_order": order,
        "dt": 0.5,
        "domain_extent": (2.0,),
        "periodic": draw(st.booleans()),
    }


def _values(draw: Any) -> np.ndarray:
    return numbers(draw, draw(st.sampled_from((1, 3))), draw(st.sampled_from((2, 6))), 2, 8)


def _windows(values: Any, n_in: int, n_out: int, batch_size: int, seed: int, shuffle: bool) -> Any:
    source = _dataset(values).windows(
        n_in, n_out, batch_size=batch_size, seed=seed, shuffle=shuffle
    )
    return source[0], source[1]


def _of_windows(found: Any, values: Any, n_in: int, n_out: int, batch_size: int, **_: Any) -> None:
    rows = np.asarray(values).astype(found[0].inputs.dtype).reshape(-1, *np.shape(values)[2:])
    for window in found:
        both = np.concatenate([window.inputs, window.targets], 1)
        assert both.shape[:2] == (batch_size, n_in + n_out)
        for snapshot in both.reshape(-1, *both.shape[2:]):
            assert (abs(rows - snapshot).max((1, 2)) == 0).any(), "a snapshot of no trajectory"


_WORDS = ("values", "snapshots", "samples", "channel")


@add("data.FieldDataset.windows", _windows, check=_of_windows, words=_WORDS)
def _(draw: Any) -> dict:
    values = _values(draw)
    return {
        "values": values,
        "n_in": 1,
        "n_out": draw(st.integers(1, values.shape[1] - 1)),
        "batch_size": draw(st.integers(1, values.shape[0])),
        "seed": draw(st.integers(0, 99)),
        "shuffle": draw(st.booleans()),
    }


def _of_evaluation(found: Any, values: Any, n_in: int, n_out: int, starts: Any) -> None:
    values = np.asarray(values)
    for i, start in enumerate(starts):
        part = values[:, start : start + n_in + n_out]
        both = np.concatenate([found.inputs, found.targets], 1)
        close(both.reshape(len(values), len(starts), *both.shape[1:])[:, i], part)


@add(
    "data.FieldDataset.evaluation_windows",
    lambda values, n_in, n_out, starts: _dataset(values).evaluation_windows(
        n_in, n_out, starts=starts
    ),
    check=_of_evaluation,
    words=_WORDS,
)
def _(draw: Any) -> dict:
    return {"values": _values(draw), "n_in": 1, "n_out": 1, "starts": (0,)}


def _split(values: Any, n_validation: int, n_test: int) -> Any:
    parts = _dataset(values).split(n_validation=n_validation, n_test=n_test)
    return [part.values for _, part in parts.items()]


def _of_split(found: Any, values: Any, n_validation: int, n_test: int) -> None:
    close(np.concatenate(found), values)
    assert len(found) == 1 + (n_validation > 0) + (n_test > 0)


@add("data.FieldDataset.split", _split, check=_of_split, words=_WORDS)
def _(draw: Any) -> dict:
    values = numbers(draw, 4, 2, 1, 5)
    return {"values": values, "n_validation": draw(st.integers(0, 2)), "n_test": 1}


@add(
    "data.FieldDataset.resample",
    lambda values, n_points: _dataset(values).resample(n_points).values,
    check=lambda found, values, n_points: close(
        np.mean(found, -1), np.mean(np.asarray(values, float), -1), rtol=1e-3
    ),
    words=_WORDS,
)
def _(draw: Any) -> dict:
    return {"values": _values(draw), "n_points": draw(st.sampled_from((1, 4, 8, 9)))}


@add(
    "data.FieldDataset.slice_times",
    lambda values, start, stop, step: _dataset(values).slice_times(start, stop, step).values,
    check=lambda found, values, start, stop, step: close(
        found, np.asarray(values)[:, start:stop:step]
    ),
    words=(*_WORDS, "times"),
)
def _(draw: Any) -> dict:
    return {"values": _values(draw), "start": 0, "stop": draw(st.integers(1, 2)), "step": 1}


@add(
    "data.FieldDataset.stride",
    lambda values, step: _dataset(values).stride(step).values,
    check=lambda found, values, step: close(found, np.asarray(values)[..., ::step]),
    words=(*_WORDS, "points"),
)
def _(draw: Any) -> dict:
    return {"values": _values(draw), "step": draw(st.sampled_from((1, 2, 4)))}


def _normalise(values: Any, u: Any) -> Any:
    normaliser = GaussianNormaliser.fit(_dataset(values))
    return normaliser.encode(u), normaliser.decode(normaliser.encode(u))


def _of_normaliser(found: Any, values: Any, u: Any) -> None:
    axes = (0, 1, 3)
    mean, std = (np.asarray(values, float).mean(axes), np.asarray(values, float).std(axes))
    close(found[0], (np.asarray(u) - mean[:, None]) / std[:, None], rtol=1e-3)
    close(found[1], u, rtol=1e-3)


@add(
    "data.GaussianNormaliser",
    _normalise,
    check=_of_normaliser,
    words=(*_WORDS, "channels"),
    follows="u",
)
def _(draw: Any) -> dict:
    values = numbers(draw, 3, 4, 2, 5)
    return {"values": values, "u": numbers(draw, 4, 2, 5)}


def _of_symmetry(found: Any, field: Any, rotate: bool, transpose: bool) -> None:
    field = np.asarray(field, float)
    assert np.shape(found) == field.shape
    close(np.linalg.norm(found), np.linalg.norm(field), rtol=1e-3)


@add(
    "data.VorticitySymmetries.apply",
    lambda field, rotate, transpose: data.VorticitySymmetries().apply(
        field, rotate=rotate, transpose=transpose
    ),
    check=_of_symmetry,
)
def _(draw: Any) -> dict:
    n = draw(st.sampled_from((1, 4, 5)))
    return {
        "field": numbers(draw, 1, n, n),
        "rotate": draw(st.booleans()),
        "transpose": draw(st.booleans()),
    }


def _of_encoding(found: Any, n_modes: Any, inputs: Any, targets: Any, batch_size: int) -> None:
    n = np.shape(inputs)[0]
    assert found.inputs.shape == (n, np.shape(inputs)[1], *n_modes)
    energy = np.mean(np.asarray(targets, float) ** 2, axis=-1).sum(-1)
    assert (found.tail >= 0).all()
    assert (found.tail <= energy * 1.001 + 1e-30).all()


@add(
    "data.encode_fields",
    lambda n_modes, inputs, targets, batch_size: data.encode_fields(
        numerics.CosineBasis(n_modes), inputs, targets, batch_size=batch_size
    ),
    check=_of_encoding,
    words=("basis", "n_points", "grid"),
)
def _(draw: Any) -> dict:
    inputs = numbers(draw, 3, 1, 6)
    return {
        "n_modes": (draw(st.integers(1, 6)),),
        "inputs": inputs,
        "targets": numbers(draw, 3, 2, 6, dtype=inputs.dtype),
        "batch_size": draw(st.integers(1, 4)),
    }


def _trajectory(position: Any, dt: float, bounds: Any) -> Trajectory:
    return Trajectory.from_array(position, dt=dt, bounds=bounds)


@add(
    "data.Trajectory.from_array",
    _trajectory,
    check=lambda found, position, dt, bounds: close(found.position, np.asarray(position)),
)
def _(draw: Any) -> dict:
    inside = np.abs(numbers(draw, 3, draw(st.sampled_from((1, 4))), 2)) % 1
    return {"position": inside, "dt": 0.1, "bounds": ((0.0, 1.0), (0.0, 1.0))}


def _of_samples(found: Any, position: Any, n_samples: int) -> None:
    assert np.shape(found) == (n_samples,)
    assert len(set(np.asarray(found).tolist())) == n_samples


@add(
    "data.sample_particles",
    lambda position, n_samples: data.sample_particles(
        _trajectory(position, 0.1, [[0, 1]] * 2), n_samples
    ),
    check=_of_samples,
    words=("particles",),
)
def _(draw: Any) -> dict:
    return {"position": np.abs(numbers(draw, 2, 5, 2)) % 1, "n_samples": draw(st.integers(1, 5))}


def _generated(
    n_points: int, viscosity: float, dt: float, n_snapshots: int, n_train: int, batch_size: int
) -> Any:
    recipe = data.NavierStokesRecipe(
        n_points=n_points,
        viscosity=viscosity,
        dt=dt,
        n_snapshots=n_snapshots,
        solver_dt=0.1,
        warm_up=0.1,
    )
    return data.generate_navier_stokes(
        None, n_train=n_train, seed=7, recipe=recipe, batch_size=batch_size, progress=False
    ).train.values


@add(
    "data.generate_navier_stokes",
    _generated,
    words=("solver_dt",),
    check=lambda found, n_points, n_snapshots, n_train, **_: _has_shape(
        found, (n_train, n_snapshots, 1, n_points, n_points)
    ),
)
def _(draw: Any) -> dict:
    return {
        "n_points": 8,
        "viscosity": 1e-2,
        "dt": 0.1,
        "n_snapshots": 2,
        "n_train": 1,
        "batch_size": 2,
    }


def _has_shape(found: Any, shape: tuple) -> None:
    assert np.shape(found) == shape, f"shape {np.shape(found)}, expected {shape}"


@add(
    "neural_operators.evaluate",
    lambda values, n_in, n_out: (
        neural_operators.evaluate(
            {"persistence": neural_operators.Persistence()}, _dataset(values), n_in, n_out
        )[0].relative_l2
    ),
    check=lambda found, values, **_: _has_shape(found, ()),
    words=_WORDS,
)
def _(draw: Any) -> dict:
    return {"values": numbers(draw, 2, 3, 1, 4), "n_in": 1, "n_out": draw(st.integers(1, 2))}


def _schedule(peak_learning_rate: float, n_steps: int, warmup_fraction: float) -> Any:
    schedule = train.one_cycle_schedule(
        peak_learning_rate, n_steps, warmup_fraction=warmup_fraction
    )
    return [float(schedule(i)) for i in range(int(n_steps) + 1)]


@add(
    "train.one_cycle_schedule",
    _schedule,
    check=lambda found, peak_learning_rate, **_: _below(found, peak_learning_rate),
)
def _(draw: Any) -> dict:
    return {"peak_learning_rate": 1e-3, "n_steps": draw(st.integers(1, 9)), "warmup_fraction": 0.3}


def _below(found: Any, most: float) -> None:
    assert max(found) <= most * 1.0001
    assert min(found) >= 0
