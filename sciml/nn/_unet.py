"""U-Net: convolutions on coarser and coarser grids, and back, with shortcuts at each level."""

from collections.abc import Sequence

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import Activation, KeyArray, check_count, check_flags, check_shape, split_keys
from ._convolution import Convolution


class UNet(eqx.Module):
    """A small U-Net in any number of dimensions, for grids of any size.

    Each level halves the grid by means of ``2^d`` points and doubles the channels; the way back
    repeats each point and joins what the level had on the way down. A grid that cannot be halved so
    often is extended by its edge values while the network acts.

    Parameters
    ----------
    in_channels, out_channels
        Channels of input and output.
    periodic
        Whether each axis is periodic; its length is the number of axes.
    hidden_channels
        Channels of the finest level.
    n_levels
        Number of coarser levels.
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import equinox as eqx, jax
    >>> net = UNet(2, 1, (False, True), hidden_channels=4, n_levels=2, key=jax.random.key(7))
    >>> eqx.filter_jit(net)(jax.numpy.ones((2, 10, 12))).shape
    (1, 10, 12)
    """

    down: list[Convolution]
    middle: list[Convolution]
    up: list[Convolution]
    last: Convolution
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    periodic: tuple[bool, ...] = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_levels: int = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        periodic: Sequence[bool],
        *,
        hidden_channels: int = 16,
        n_levels: int = 3,
        activation: Activation = jax.nn.gelu,
        key: KeyArray,
    ):
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.periodic = check_flags("periodic", periodic)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.n_levels = check_count("n_levels", n_levels)
        self.activation = activation
        keys = iter(split_keys(key, 4 * n_levels + 3))

        def convolution(inner: int, outer: int, size: int = 3) -> Convolution:
            return Convolution(inner, outer, size, self.periodic, key=next(keys))

        width = hidden_channels
        channels = [in_channels, *(width * 2**level for level in range(n_levels + 1))]
        self.down, self.up = [], []
        for level in range(n_levels):
            self.down += [
                convolution(channels[level], channels[level + 1]),
                convolution(channels[level + 1], channels[level + 1]),
            ]
        self.middle = [convolution(*channels[-2:]), convolution(channels[-1], channels[-1])]
        for level in reversed(range(n_levels)):
            inner, outer = channels[level + 2] + channels[level + 1], channels[level + 1]
            self.up += [convolution(inner, outer), convolution(outer, outer)]
        self.last = convolution(width, out_channels, 1)

    def __call__(self, v: Float[Array, "in_channels *space"]) -> Float[Array, "out *space"]:
        """Return the output on the grid of ``v``.

        Raises
        ------
        ValueError
            If ``v`` has other channels or axes.
        """
        axes = tuple(f"space_{axis}" for axis in range(len(self.periodic)))
        check_shape("v", v, (self.in_channels, *axes))
        grid = v.shape[1:]
        extension = [(0, -n % 2**self.n_levels) for n in grid]
        v = jnp.pad(v, [(0, 0), *extension], mode="edge")
        shortcuts = []
        for level in range(self.n_levels):
            v = self._twice(self.down[2 * level : 2 * level + 2], v)
            shortcuts.append(v)
            v = _halve(v)
        v = self._twice(self.middle, v)
        for level in range(self.n_levels):
            v = jnp.concatenate([_double(v), shortcuts.pop()])
            v = self._twice(self.up[2 * level : 2 * level + 2], v)
        return self.last(v)[(slice(None), *(slice(n) for n in grid))]

    def _twice(self, layers: list[Convolution], v: Array) -> Array:
        for layer in layers:
            v = self.activation(layer(v))
        return v


def _halve(v: Array) -> Array:
    for axis in range(1, v.ndim):
        shape = (*v.shape[:axis], v.shape[axis] // 2, 2, *v.shape[axis + 1 :])
        v = jnp.mean(v.reshape(shape), axis=axis + 1)
    return v


def _double(v: Array) -> Array:
    for axis in range(1, v.ndim):
        v = jnp.repeat(v, 2, axis=axis)
    return v
