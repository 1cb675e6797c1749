"""The residual convolutional network of the deep conjugate direction method.

stem -> residual ReLU convolutions -> average over 2^d cells -> residual ReLU convolutions
     -> nearest upsampling, plus the fine features -> residual ReLU convolutions -> one channel
"""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ..core import KeyArray, check_count, check_key, cites, split_keys
from ..numerics import full_precision
from ._bibliography import KANEDA_2023

_CONVOLUTIONS_PER_BLOCK = 2


class _ResidualBlock(eqx.Module):
    """Two convolutions with ReLU, and the input added."""

    first: eqx.nn.Conv
    second: eqx.nn.Conv

    def __call__(self, h: Float[Array, "channels *space"]) -> Float[Array, "channels *space"]:
        return h + jax.nn.relu(self.second(jax.nn.relu(self.first(h))))


@cites(KANEDA_2023)
class DirectionNetwork(eqx.Module):
    """Guess a search direction from a residual on a grid: the published network of DCDM.

    All kernels have 3 points an axis, zeros outside the grid. It is fully convolutional: one
    network serves grids of any size (odd ones are padded by one cell), but its view reaches only
    about 21 cells (33 in the larger size), and a cell costs some 10^5 floating-point operations in
    3-D. The input is divided by its norm and the output multiplied by it, so that
    ``net(s r) = s net(r)`` for ``s > 0`` in spite of the biases. It is not linear and not
    symmetric: use it with `conjugate_directions` or `dcdm`, never as ``M`` of plain conjugate
    gradients.

    Parameters
    ----------
    n_axes
        Axes of the grid, 1 to 3.
    n_fine_layers
        Convolutions at full resolution, on the way in and again on the way out; even. 4 in the
        network that was trained on 64 points an axis, 6 in that for 128.
    n_coarse_layers
        Convolutions at half resolution; even. 6 for 64, 10 for 128.
    hidden_channels
        Channels everywhere inside.
    use_bias
        Biases, as published. Without them and without normalisation the network itself would be
        positively homogeneous.
    identity_skip
        Our own form: ``r`` is added to the output and the last layer starts at zero, so that
        training starts from the residual as direction. The loss of noise has a plateau at 1,
        which the published form can take hundreds of steps to leave.
    key
        For the start of the weights.

    Notes
    -----
    The paper's code fixes the sequence of layers and sizes above; that two convolutions make up a
    residual block is our choice. The numbers of parameters agree: 97 457 and 152 881 in 3-D.

    References
    ----------
    .. [1] A. Kaneda, O. Akar, J. Chen, V. A. T. Kala, D. Hyde and J. Teran, "A deep conjugate
       direction method for iteratively solving linear systems", ICML 2023.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> network = DirectionNetwork(2, key=jax.random.key(23))
    >>> network(jnp.ones((12, 9))).shape
    (12, 9)
    >>> sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(network, eqx.is_array)))
    32657
    """

    n_axes: int = eqx.field(static=True)
    n_fine_layers: int = eqx.field(static=True)
    n_coarse_layers: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    use_bias: bool = eqx.field(static=True)
    identity_skip: bool = eqx.field(static=True)
    stem: eqx.nn.Conv
    descending: list[_ResidualBlock]
    coarse: list[_ResidualBlock]
    ascending: list[_ResidualBlock]
    head: eqx.nn.Conv

    def __init__(
        self,
        n_axes: int,
        *,
        n_fine_layers: int = 4,
        n_coarse_layers: int = 6,
        hidden_channels: int = 16,
        use_bias: bool = True,
        identity_skip: bool = False,
        key: KeyArray,
    ):
        check_key(key)
        self.n_axes = check_count("n_axes", n_axes)
        if n_axes > 3:
            raise ValueError(f"`n_axes` must be 1, 2 or 3, got {n_axes}.")
        self.n_fine_layers = check_count("n_fine_layers", n_fine_layers, minimum=0)
        self.n_coarse_layers = check_count("n_coarse_layers", n_coarse_layers, minimum=0)
        for name, count in (("fine", n_fine_layers), ("coarse", n_coarse_layers)):
            if count % _CONVOLUTIONS_PER_BLOCK:
                raise ValueError(
                    f"`n_{name}_layers` must be even (two convolutions a block), got {count}."
                )
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.use_bias = bool(use_bias)
        self.identity_skip = bool(identity_skip)
        keys = iter(split_keys(key, 2 + 2 * n_fine_layers + n_coarse_layers))

        def convolution(n_in: int, n_out: int, width: int) -> eqx.nn.Conv:
            return eqx.nn.Conv(
                n_axes, n_in, n_out, width, padding="SAME", use_bias=use_bias, key=next(keys)
            )

        def blocks(n_layers: int) -> list[_ResidualBlock]:
            c = hidden_channels
            count = n_layers // _CONVOLUTIONS_PER_BLOCK
            return [
                _ResidualBlock(convolution(c, c, 3), convolution(c, c, 3)) for _ in range(count)
            ]

        self.stem = convolution(1, hidden_channels, 3)
        self.descending = blocks(n_fine_layers)
        self.coarse = blocks(n_coarse_layers)
        self.ascending = blocks(n_fine_layers)
        head = convolution(hidden_channels, 1, 1)
        if identity_skip:
            head = jax.tree.map(lambda leaf: leaf * 0 if eqx.is_array(leaf) else leaf, head)
        self.head = head

    @full_precision
    def __call__(self, r: Float[Array, "*space"]) -> Float[Array, "*space"]:
        """Return a direction in the precision of ``r``; the weights keep theirs.

        Parameters
        ----------
        r
            A residual, shape ``(*space)``; its size does not matter.
        """
        if r.ndim != self.n_axes:
            raise ValueError(f"`r` must have {self.n_axes} axes, got shape {r.shape}.")
        # Of size one first: squares of small entries would underflow.
        largest = jnp.max(jnp.abs(r))
        largest = jnp.where(largest > 0, largest, jnp.ones_like(largest))
        total = jnp.sum((r / largest) ** 2)
        norm = jnp.sqrt(jnp.where(total > 0, total, jnp.ones_like(total)))
        unit = (r / largest / norm).astype(self.stem.weight.dtype)
        out = self._features(unit).astype(r.dtype)
        if self.identity_skip:
            out = out + unit.astype(r.dtype)
        return jnp.where(total > 0, out * (norm * largest), jnp.zeros_like(r))

    def _features(self, unit: Float[Array, "*space"]) -> Float[Array, "*space"]:
        padded = jnp.pad(unit, [(0, n % 2) for n in unit.shape])
        h = self.stem(padded[None])
        for block in self.descending:
            h = block(h)
        low = _pooled(h)
        for block in self.coarse:
            low = block(low)
        for axis in range(1, low.ndim):
            low = jnp.repeat(low, 2, axis)
        h = h + low
        for block in self.ascending:
            h = block(h)
        return self.head(h)[0][tuple(slice(n) for n in unit.shape)]


def _pooled(h: Float[Array, "channels *space"]) -> Float[Array, "channels *half"]:
    """Return the means over two cells along each axis."""
    split = [s for n in h.shape[1:] for s in (n // 2, 2)]
    axes = tuple(range(2, 2 * h.ndim, 2))
    return jnp.mean(h.reshape(h.shape[0], *split), axis=axes)


def n_parameters(network: DirectionNetwork) -> int:
    """Return how many numbers are trained."""
    arrays = jax.tree.leaves(eqx.filter(network, eqx.is_inexact_array))
    return sum(math.prod(leaf.shape) for leaf in arrays)
