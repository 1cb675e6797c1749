"""A periodic multilayer perceptron for Gauss-Newton: sines and cosines, then tanh layers."""

import itertools

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_positive, real_dtype
from ..numerics import full_precision


class PeriodicMLP(eqx.Module):
    r"""Tanh layers on :math:`\cos(2\pi k x/L), \sin(2\pi k x/L)`: exactly periodic in each axis.

    The biases are random. With zero biases the network is odd under a shift by half a period, and
    so is its tangent: no natural gradient ever leaves that symmetry.

    Parameters
    ----------
    dim
        Dimensions of a point.
    width
        Units a layer.
    depth
        Hidden layers.
    n_outputs
        Components of the value; None for a scalar.
    period
        Length of the box.
    harmonics
        The :math:`k`.
    gain
        Scale of the initial weights, in units of ``1/sqrt(fan in)``; at most 1 is recommended.
    bias_scale
        Biases start uniform in ``[-bias_scale, bias_scale]``.
    key
        A random key.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> network = PeriodicMLP(2, width=4, key=jax.random.key(0))
    >>> network(jnp.zeros(2)).shape
    ()
    """

    weights: tuple[Array, ...]
    biases: tuple[Array, ...]
    dim: int = eqx.field(static=True)
    width: int = eqx.field(static=True)
    depth: int = eqx.field(static=True)
    n_outputs: int | None = eqx.field(static=True)
    period: float = eqx.field(static=True)
    harmonics: tuple[int, ...] = eqx.field(static=True)
    gain: float = eqx.field(static=True)
    bias_scale: float = eqx.field(static=True)

    def __init__(
        self,
        dim: int,
        *,
        width: int = 20,
        depth: int = 3,
        n_outputs: int | None = None,
        period: float = 2 * np.pi,
        harmonics: tuple[int, ...] = (1,),
        gain: float = 0.8,
        bias_scale: float = 0.3,
        key: KeyArray,
    ):
        check_positive("period", period)
        check_positive("gain", gain)
        self.dim = check_count("dim", dim)
        self.width = check_count("width", width)
        self.depth = check_count("depth", depth)
        self.n_outputs, self.period, self.harmonics = n_outputs, float(period), tuple(harmonics)
        self.gain, self.bias_scale = float(gain), float(bias_scale)
        sizes = [2 * dim * len(self.harmonics), *[width] * depth, n_outputs or 1]
        weights, biases = [], []
        for i, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
            k_w, k_b = jax.random.split(jax.random.fold_in(key, i))
            scale = jnp.asarray(gain / np.sqrt(n_in), real_dtype())
            weights.append(jax.random.normal(k_w, (n_out, n_in), real_dtype()) * scale)
            bound = jnp.asarray(bias_scale, real_dtype())
            biases.append(jax.random.uniform(k_b, (n_out,), real_dtype(), -1, 1) * bound)
        self.weights, self.biases = tuple(weights), tuple(biases)

    @full_precision
    def __call__(self, x: Float[Array, " dim"]) -> Float[Array, "..."]:
        """Return the value at a point.

        Parameters
        ----------
        x
            A point, ``(dim,)``.
        """
        angle = x * jnp.asarray(2 * np.pi / self.period, x.dtype)
        angles = jnp.concatenate([jnp.asarray(k, x.dtype) * angle for k in self.harmonics])
        h = jnp.concatenate([jnp.cos(angles), jnp.sin(angles)])
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            h = jnp.tanh(weight @ h + bias)
        value = self.weights[-1] @ h + self.biases[-1]
        return value[0] if self.n_outputs is None else value
