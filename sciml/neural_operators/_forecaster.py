"""What all forecasting models share: a window of snapshots in, the next snapshots out."""

import abc

import equinox as eqx
from jaxtyping import Array, Float

from ..core import check_count, check_floating, check_shape


class AbstractForecaster(eqx.Module):
    """A model that continues a trajectory: ``model(inputs, n_steps)``.

    Learned operators, the trivial baseline and classical solvers have this one interface, so
    that training, roll-out and evaluation do not care which of them they are given.
    """

    @abc.abstractmethod
    def __call__(
        self,
        inputs: Float[Array, "n_in channels *space"],
        n_steps: int,
        *,
        context: Float[Array, "context_channels ..."] | None = None,
    ) -> Float[Array, "n_steps channels *space"]:
        """Return the ``n_steps`` snapshots after ``inputs``.

        Parameters
        ----------
        inputs
            Snapshots in order of time, the last one at time zero; no batch axis.
        n_steps
            Number of snapshots to predict.
        context
            Fields that do not change in time, such as a forcing.
        """


def check_forecast_inputs(
    inputs: Float[Array, "n_in channels *space"],
    n_steps: int,
    context: Float[Array, "context_channels ..."] | None,
    *,
    channels: int,
    context_channels: int,
    n_space: int,
    n_in: int = 1,
) -> None:
    """Raise unless the arguments of a forecaster's call fit the model.

    Raises
    ------
    ValueError
        If an axis has the wrong size, or ``context`` is missing or not expected.
    TypeError
        If ``inputs`` is not floating-point or ``n_steps`` not an integer.
    """
    check_count("n_steps", n_steps)
    check_floating("inputs", inputs)
    if inputs.ndim == n_space + 3:
        raise ValueError(
            f"`inputs` must have the axes (time, channels, *space), got shape {inputs.shape} with "
            "one axis more. For a batch use `jax.vmap(lambda window: model(window, n_steps))`."
        )
    space = tuple(f"space_{axis}" for axis in range(n_space))
    sizes = check_shape("inputs", inputs, ("n_in", channels, *space))
    if sizes["n_in"] == 0:
        raise ValueError("`inputs` must hold at least one snapshot, got none.")
    if sizes["n_in"] < n_in:
        raise ValueError(f"`inputs` must hold at least n_in={n_in} snapshots, got {sizes['n_in']}.")
    if context is None:
        if context_channels:
            raise ValueError(
                f"the model was built with context_channels={context_channels}: pass `context` "
                f"of shape ({context_channels}, *space), for instance the forcing."
            )
        return
    if not context_channels:
        raise ValueError("`context` was given, but the model was built with context_channels=0.")
    check_shape("context", context, (context_channels, *inputs.shape[2:]))
