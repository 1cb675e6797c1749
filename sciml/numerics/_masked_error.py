"""The error of CFDBench: squares of the error over squares of the truth, in the fluid only."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ..core import check_array, check_floating


def normalised_mse(
    prediction: Float[Array, "time channels *space"],
    truth: Float[Array, "time channels *space"],
    *,
    mask: Bool[Array, "*space"] | None = None,
    pooled: bool = True,
) -> Float[Array, ""]:
    r"""Return :math:`\sum (p - t)^2 / \sum t^2` over the points where ``mask`` is true.

    Parameters
    ----------
    prediction, truth
        Frames, ``(time, channels, *space)``.
    mask
        The points that count; all by default.
    pooled
        One ratio of sums over all frames. Otherwise the mean of each frame's ratio, as published,
        in which frames near rest outweigh all others; a frame of zeros then counts by its squares.

    Returns
    -------
    Array
        A scalar; the square of a relative L2 error if ``pooled``. It is infinite or NaN where the
        truth is zero throughout.

    Raises
    ------
    ValueError
        If the shapes differ.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> truth = jnp.ones((3, 2, 4, 4))
    >>> float(normalised_mse(1.5 * truth, truth))
    0.25
    """
    for name, array in (("prediction", prediction), ("truth", truth)):
        check_array(name, array)
        check_floating(name, array)
    if prediction.shape != truth.shape:
        raise ValueError(
            f"`prediction` and `truth` must have one shape, got {prediction.shape} and "
            f"{truth.shape}."
        )
    weight = jnp.ones(truth.shape[2:], truth.dtype) if mask is None else mask.astype(truth.dtype)
    if weight.shape != truth.shape[2:]:
        raise ValueError(f"`mask` must have the shape {truth.shape[2:]}, got {weight.shape}.")
    weight = weight[None, None]
    axes = None if pooled else tuple(range(1, truth.ndim))
    # What is masked may be anything, NaN included.
    error = jnp.sum(jnp.where(weight > 0, prediction - truth, 0) ** 2, axis=axes)
    size = jnp.sum(jnp.where(weight > 0, truth, 0) ** 2, axis=axes)
    if pooled:
        return error / size
    return jnp.mean(error / jnp.where(size > 0, size, 1))
