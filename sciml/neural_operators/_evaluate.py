"""Compare forecasters on the same held-out windows: errors, error against lead time, seconds."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from ..core import check_count
from ..data import FieldDataset
from ..numerics import relative_error_curve, relative_h1, relative_l2
from ._forecaster import AbstractForecaster


@dataclasses.dataclass(frozen=True, eq=False)
class ForecastScore:
    """How one forecaster did on a set of windows.

    Attributes
    ----------
    method
        Its name.
    relative_l2, relative_h1
        Mean over the windows of the relative error in L2 of time and L2 or H1 of space; ``nan``
        if the forecast was not finite, for H1 also if an axis is not periodic.
    seconds
        Median wall time of one forecast (one window), compilation left out.
    error_curve
        Relative L2 error of each window at each lead time, ``(window, n_out)``.
    example
        The forecast of the first window, ``(n_out, channels, *space)``.
    """

    method: str
    relative_l2: float
    relative_h1: float
    seconds: float
    error_curve: Float[np.ndarray, "window n_out"]
    example: Float[np.ndarray, "n_out channels *space"]

    def row(self) -> dict[str, Any]:
        """Return the figures as a row of a results file (None for what is not finite)."""
        row: dict[str, Any] = {"method": self.method}
        for name in ("relative_l2", "relative_h1", "seconds"):
            value = float(getattr(self, name))
            row[name] = value if np.isfinite(value) else None
        return row


def evaluate(
    models: Mapping[str, AbstractForecaster],
    dataset: FieldDataset,
    n_in: int,
    n_out: int,
    *,
    starts: Sequence[int] = (0,),
) -> list[ForecastScore]:
    """Forecast the same windows with each model and compare with the truth.

    Parameters
    ----------
    models
        Forecasters by name.
    dataset
        Held-out trajectories, on the grid on which the models are to be judged.
    n_in, n_out
        Snapshots given and predicted.
    starts
        Indices of the first input snapshot; every sample is used from each of them.

    Returns
    -------
    list of ForecastScore
        One for each model, in order. Windows are forecast one at a time, as a user would call a
        model, so that ``seconds`` is the latency and memory stays small on fine grids.

    Raises
    ------
    ValueError
        If there is no model, or a window does not fit into the trajectories.
    TypeError
        If one of ``models`` is not a forecaster.

    Examples
    --------
    >>> import sciml
    >>> from sciml.neural_operators import Persistence, evaluate
    >>> test = sciml.data.load("navier-stokes", n_points=16).test
    >>> (score,) = evaluate({"persistence": Persistence()}, test, n_in=10, n_out=40)
    >>> round(score.relative_l2, 2), score.error_curve.shape
    (0.34, (8, 40))
    """
    if not models:
        raise ValueError("`models` must hold at least one forecaster, got none.")
    for name, model in models.items():
        if not isinstance(model, AbstractForecaster):
            raise TypeError(f"`models[{name!r}]` must be a forecaster, got {model!r}.")
    check_count("n_in", n_in)
    check_count("n_out", n_out)
    windows = dataset.evaluation_windows(n_in, n_out, starts=starts)
    return [_score(name, model, dataset, windows, n_out) for name, model in models.items()]


def _score(
    method: str, model: AbstractForecaster, dataset: FieldDataset, windows: Any, n_out: int
) -> ForecastScore:
    # The model is an argument, not a constant of the program: constants are slow to compile.
    arrays, static = eqx.partition(model, eqx.is_array)

    @jax.jit
    def forecast(arrays, inputs, context):
        return eqx.combine(arrays, static)(inputs, n_out, context=context)

    @jax.jit
    def errors(prediction, truth):
        # The Sobolev norm is a sum over Fourier modes: between walls it would count a jump.
        is_periodic = all(dataset.periodic)
        h1 = relative_h1(prediction, truth, dataset.domain_extent) if is_periodic else jnp.nan
        return (
            relative_l2(prediction, truth),
            h1,
            relative_error_curve(prediction, truth, dataset.domain_extent),
        )

    l2, h1, curves, seconds, examples = [], [], [], [], []
    for index in range(len(windows.inputs)):
        inputs = jnp.asarray(windows.inputs[index])
        context = None if windows.context is None else jnp.asarray(windows.context[index])
        if index == 0:
            jax.block_until_ready(forecast(arrays, inputs, context))
        begin = time.perf_counter()
        prediction = jax.block_until_ready(forecast(arrays, inputs, context))
        seconds.append(time.perf_counter() - begin)
        examples = examples or [np.asarray(prediction)]
        this_l2, this_h1, curve = errors(prediction, jnp.asarray(windows.targets[index]))
        l2.append(float(this_l2))
        h1.append(float(this_h1))
        curves.append(np.asarray(curve))
    return ForecastScore(
        method,
        float(np.mean(l2)),
        float(np.mean(h1)),
        float(np.median(seconds)),
        np.stack(curves),
        examples[0],
    )
