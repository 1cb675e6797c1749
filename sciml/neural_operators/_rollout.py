"""Long forecasts from short ones: feed a forecaster its own output, window by window."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import check_count
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
    n_in = inputs.shape[0]

    def advance(known, _):
        predicted = model(known, window, context=context)
        return jnp.concatenate([known, predicted])[-n_in:], predicted

    n_windows = -(-n_steps // window)
    _, predictions = jax.lax.scan(advance, inputs, None, length=n_windows)
    return predictions.reshape(-1, *inputs.shape[1:])[:n_steps]
