"""Long forecasts from short ones: feed a forecaster its own output, window by window."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import check_count, check_floating
from ._forecaster import AbstractForecaster


def rollout(
    model: AbstractForecaster,
    inputs: Float[Array, "n_in channels *space"],
    n_steps: int,
    *,
    window: int | None = None,
    context: Float[Array, "context_channels ..."] | None = None,
) -> Float[Array, "n_steps channels *space"]:
    """Predict ``n_steps`` snapshots, ``window`` at a time.

    Each window starts from the ``n_in`` snapshots before it, predicted ones as soon as there are
    enough. One compiled scan, whatever ``n_steps``.

    Parameters
    ----------
    model
        Any forecaster.
    inputs
        Known snapshots in order of time.
    n_steps
        Snapshots to predict.
    window
        Snapshots a call of the model predicts; the number it was trained for. ``n_steps`` if
        left out: a single call.
    context
        Static fields.

    Returns
    -------
    Array
        ``(n_steps, channels, *space)``.

    Raises
    ------
    ValueError
        If ``window`` or ``n_steps`` is below one.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.neural_operators import Persistence
    >>> rollout(Persistence(), jnp.ones((2, 1, 4, 4)), 7, window=3).shape
    (7, 1, 4, 4)
    """
    n_steps = check_count("n_steps", n_steps)
    window = n_steps if window is None else check_count("window", window)
    check_floating("inputs", inputs)
    inputs = jnp.asarray(inputs)
    if inputs.ndim < 3 or inputs.shape[0] == 0:
        raise ValueError(
            "`inputs` must have the axes (time, channels, *space) with one snapshot at least, got "
            f"shape {inputs.shape}."
        )
    predictions = _windows(model, inputs, -(-n_steps // window), window, context)
    return predictions.reshape(-1, *inputs.shape[1:])[:n_steps]


# Compiled once for all calls, with the model as an argument.
@eqx.filter_jit
def _windows(
    model: AbstractForecaster, inputs: Array, n_windows: int, window: int, context: Array | None
) -> Array:
    def advance(known, _):
        predicted = model(known, window, context=context)
        # What is fed back has the precision of the inputs, whatever the model's is.
        fed_back = predicted.astype(known.dtype)
        return jnp.concatenate([known, fed_back])[-len(inputs) :], predicted

    return jax.lax.scan(advance, inputs, None, length=n_windows)[1]
