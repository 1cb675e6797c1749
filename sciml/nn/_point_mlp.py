"""Perceptron on the channels of points, channels last: rows can be gathered without a transpose."""

import math
from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_array, check_count, check_key, split_keys
from ..numerics import full_precision
from ._initial_weights import constant_weights, normal_weights


class PointMLP(eqx.Module):
    """Affine maps of the last axis with an activation between them.

    Parameters
    ----------
    widths
        Channels of the input, of each hidden layer and of the output.
    activation
        Pointwise function.
    normalise
        Whether the output is scaled to mean 0 and variance 1 over the channels, and a learned
        scale and shift applied.
    key
        PRNG key of the initial weights (normal, variance ``1 / in_channels``; the biases are 0).

    Examples
    --------
    >>> import jax
    >>> PointMLP((3, 8, 2), key=jax.random.key(7))(jax.numpy.ones((5, 4, 3))).shape
    (5, 4, 2)
    """

    weights: tuple[Float[Array, "n_in n_out"], ...]
    biases: tuple[Float[Array, " n_out"], ...]
    scale: Float[Array, " n_out"] | None
    shift: Float[Array, " n_out"] | None
    widths: tuple[int, ...] = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    normalise: bool = eqx.field(static=True)

    def __init__(
        self,
        widths: Sequence[int],
        *,
        activation: Activation = jax.nn.silu,
        normalise: bool = False,
        key: KeyArray,
    ):
        check_key(key)
        if not isinstance(widths, Sequence | np.ndarray | jax.Array):
            raise TypeError(f"`widths` must be a sequence of integers, got {widths!r}.")
        self.widths = tuple(check_count("widths", width) for width in widths)
        if len(self.widths) < 2:
            raise ValueError(f"`widths` needs input and output at least, got {self.widths}.")
        self.activation, self.normalise = activation, normalise
        keys = split_keys(key, len(self.widths) - 1)
        pairs = list(zip(self.widths[:-1], self.widths[1:], strict=True))
        self.weights = tuple(
            normal_weights(k, (n_in, n_out), 1 / math.sqrt(n_in))
            for k, (n_in, n_out) in zip(keys, pairs, strict=True)
        )
        self.biases = tuple(constant_weights(0.0, n_out) for _, n_out in pairs)
        self.scale = constant_weights(1.0, self.widths[-1]) if normalise else None
        self.shift = constant_weights(0.0, self.widths[-1]) if normalise else None

    @full_precision
    def __call__(self, v: Float[Array, "*points n_in"]) -> Float[Array, "*points n_out"]:
        """Return the output at each point.

        Raises
        ------
        ValueError
            If the last axis of ``v`` has another size.
        """
        check_array("v", v)
        if v.ndim == 0 or v.shape[-1] != self.widths[0]:
            raise ValueError(
                f"the last axis of `v` must have {self.widths[0]} channels, got shape {v.shape}."
            )
        shape = v.shape[:-1]
        v = v.reshape(-1, v.shape[-1])
        last = len(self.weights) - 1
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            v = v @ weight.astype(v.dtype) + bias.astype(v.dtype)[None]
            v = v if i == last else self.activation(v)
        if self.scale is not None and self.shift is not None:
            v = standardise(v) * self.scale.astype(v.dtype)[None] + self.shift.astype(v.dtype)[None]
        return v.reshape(*shape, -1)


def standardise(v: Float[Array, "*points channels"]) -> Float[Array, "*points channels"]:
    """Return ``v`` with mean 0 and variance 1 over the last axis.

    Parameters
    ----------
    v
        Channels last; where they are all equal the result is 0.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> print(standardise(jnp.array([1.0, 3.0])).round(3))
    [-1.  1.]
    """
    check_array("v", v)
    v = v - jnp.mean(v, axis=-1, keepdims=True)
    variance = jnp.mean(v**2, axis=-1, keepdims=True)
    return v * jax.lax.rsqrt(variance + jnp.asarray(1e-5, v.dtype))
