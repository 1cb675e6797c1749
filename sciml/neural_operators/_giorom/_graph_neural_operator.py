r"""Integral operators between point clouds, with kernels that know where the query is.

.. math::

    u(y) = C\, \frac{\sum_j w_j\, K(x_j - y, f_j)}{\sum_j w_j + \text{floor}} + c

where the weights :math:`w_j` hold quadrature and window. The reference's kernels see the sources
alone, so that all queries with the same neighbours get the same value; these see the offset.
"""

import enum
import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ...core import Activation, KeyArray, check_count, check_key, check_shape, cites, split_keys
from ...nn import PointMLP
from ...nn._initial_weights import normal_weights
from ...numerics import Neighbours, full_precision
from ._bibliography import LI_2020


class KernelKind(enum.Enum):
    r"""How the kernel of a `GraphNeuralOperator` meets the function."""

    LINEAR = "k(x - y) * (A f)"
    """Linear in the function: a learned filter of the offset, channel by channel."""

    NONLINEAR = "s(A f + B(x - y))"
    """A perceptron of both."""


@cites(LI_2020)
class GraphNeuralOperator(eqx.Module):
    """Carry a function from one set of points to another, over pairs that are given.

    Parameters
    ----------
    in_channels, out_channels
        Channels of the function, and of the result.
    dim
        Dimension of space.
    hidden_channels
        Channels of the kernel.
    kind
        How the kernel meets the function.
    floor
        Added to the sum of the weights: 0 gives a mean, which jumps where the last neighbour of a
        query leaves; a small part of a full ball's weight lets the result fade to the constant
        ``c`` instead.
    activation
        Pointwise function.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] Z. Li et al., "Neural Operator: Graph Kernel Network for Partial Differential
           Equations", 2020.

    Examples
    --------
    >>> import jax, jax.numpy as jnp
    >>> from sciml.numerics import radius_neighbours
    >>> x, y = jnp.array([[0.1], [0.3], [0.7]]), jnp.array([[0.2], [0.6]])
    >>> near = radius_neighbours(x, y, 0.25)
    >>> block = GraphNeuralOperator(4, 2, 1, hidden_channels=8, key=jax.random.key(7))
    >>> offset = near.gather(x) - y[:, None]
    >>> block(jnp.ones((3, 4)), offset, near.mask.astype(float), near).shape
    (2, 2)
    """

    function: Float[Array, "in_channels hidden_channels"]
    offset: PointMLP
    out: PointMLP
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    kind: KernelKind = eqx.field(static=True)
    floor: float = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        dim: int,
        *,
        hidden_channels: int = 32,
        kind: KernelKind = KernelKind.NONLINEAR,
        floor: float = 0.0,
        activation: Activation = jax.nn.silu,
        key: KeyArray,
    ):
        check_key(key)
        self.in_channels = check_count("in_channels", in_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.dim = check_count("dim", dim)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        if not floor >= 0:
            raise ValueError(f"`floor` must be zero or positive, got {floor!r}.")
        self.kind, self.floor, self.activation = kind, float(floor), activation
        keys = split_keys(key, 3)
        shape = (in_channels, hidden_channels)
        self.function = normal_weights(keys[0], shape, 1 / math.sqrt(in_channels))
        widths = (dim, hidden_channels)
        if kind is KernelKind.LINEAR:
            widths = (dim, hidden_channels, hidden_channels)
        self.offset = PointMLP(widths, activation=activation, key=keys[1])
        self.out = PointMLP((hidden_channels, out_channels), key=keys[2])

    @full_precision
    def __call__(
        self,
        f: Float[Array, "n_senders in_channels"],
        offset: Float[Array, "n_queries k dim"],
        weight: Float[Array, "n_queries k"],
        neighbours: Neighbours,
        *,
        n_receivers: int | None = None,
    ) -> Float[Array, "n_receivers out_channels"]:
        """Return the result at the queries, or, backwards, at the points.

        Parameters
        ----------
        f
            The function at the points; at the queries if ``n_receivers`` is given.
        offset
            Sender minus receiver for each pair, in units of the radius.
        weight
            Quadrature weight times window of each pair; not negative.
        neighbours
            The pairs: for each query its points.
        n_receivers
            Number of points: the result is then at the points, from a function at the queries.

        Raises
        ------
        ValueError
            If a shape does not fit.
        """
        n_queries, capacity = neighbours.index.shape
        check_shape("offset", offset, (n_queries, capacity, self.dim))
        check_shape("weight", weight, (n_queries, capacity))
        is_back = n_receivers is not None
        n_senders = n_queries if is_back else "n_senders"
        check_shape("f", f, (n_senders, self.in_channels))
        dtype = f.dtype
        carried = f @ self.function.astype(dtype)
        carried = carried[:, None] if is_back else neighbours.gather(carried)
        kernel = self.offset(offset)
        if self.kind is KernelKind.LINEAR:
            values = kernel * carried
        else:
            values = self.activation(kernel + carried)
        weight = jnp.where(neighbours.mask, weight, jnp.zeros((), dtype))
        if is_back:
            packed = jnp.concatenate([values * weight[..., None], weight[..., None]], axis=-1)
            packed = neighbours.sum_over_queries(packed, n_receivers)
            total, norm = packed[:, :-1], packed[:, -1]
        else:
            total, norm = jnp.einsum("nk,nkc->nc", weight, values), jnp.sum(weight, axis=1)
        norm = norm + jnp.asarray(self.floor, dtype)
        safe = jnp.where(norm > 0, norm, jnp.ones((), dtype))
        return self.out(total / safe[:, None])
