r"""What a convergent graph solver is compared with: a deep graph network, and IGNN.

`ImplicitGraphNetwork` solves :math:`X = \phi(W \hat A X + B)` (Gu et al. 2020): the adjacency is
fixed, channels mix, and the edges' features are seen in ``B`` only.
"""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import (
    RESULTS,
    Activation,
    KeyArray,
    Solution,
    check_count,
    check_positive,
    cites,
    results_where,
    split_keys,
    throw_if_failed,
)
from ..nn import AttentionMessages, ChannelLinear, ChannelMLP
from ..numerics import Graph, full_precision, segment_mean
from ._bibliography import GU_2020
from ._encoder import clean_features, encode, make_encoder, read_out
from ._rows import Readout

# A limit on the terms of the series that differentiates IGNN: factors up to 0.999 need fewer.
_ADJOINT_STEPS = 20_000


class DeepGraphNetwork(eqx.Module):
    """Message passing and a decoder: sees as many edges far as it has layers.

    Parameters
    ----------
    node_channels, edge_channels, out_channels
        As in `ConvergentGraphSolver`.
    n_layers
        Layers of message passing.
    hidden_channels
        Width.
    readout
        Whether nodes or graphs are predicted.
    key
        PRNG key of the initial weights.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from sciml.numerics import Graph
    >>> graph = Graph.from_arrays(np.ones((3, 2)), np.ones((2, 1)), [0, 1], [1, 2])
    >>> DeepGraphNetwork(2, 1, 1, key=jax.random.key(7))(graph).shape
    (3, 1)
    """

    encoder: list[AttentionMessages]
    decoder: ChannelMLP
    node_channels: int = eqx.field(static=True)
    edge_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    readout: Readout = eqx.field(static=True)

    def __init__(
        self,
        node_channels: int,
        edge_channels: int,
        out_channels: int,
        *,
        n_layers: int = 4,
        hidden_channels: int = 32,
        readout: Readout = Readout.NODES,
        key: KeyArray,
    ):
        self.node_channels = check_count("node_channels", node_channels)
        self.edge_channels = check_count("edge_channels", edge_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.n_layers = check_count("n_layers", n_layers)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.readout = readout
        keys = split_keys(key)
        self.encoder = make_encoder(
            node_channels, edge_channels, hidden_channels, n_layers, key=keys[0]
        )
        self.decoder = ChannelMLP(
            hidden_channels, out_channels, hidden_channels, activation=jax.nn.silu, key=keys[1]
        )

    @full_precision
    def __call__(self, graph: Graph) -> Float[Array, "n out_channels"]:
        """Return the prediction for each node, or for each graph."""
        nodes, edges = clean_features(graph, self.node_channels, self.edge_channels)
        nodes, _ = encode(self.encoder, graph, nodes, edges)
        return self.decoder(read_out(self.readout, graph, jax.nn.silu(nodes)).T).T


@cites(GU_2020)
class ImplicitGraphNetwork(eqx.Module):
    """IGNN: one nonlinear fixed point in which channels mix along a given adjacency.

    Every row of the adjacency is the mean over the incoming edges, and the rows of ``W`` are scaled
    so that their absolute values sum to ``kappa`` at most (the published code projects ``W`` after
    each step instead). The bias comes from message passing, so that it sees the edges' features.

    Parameters
    ----------
    node_channels, edge_channels, out_channels
        As in `ConvergentGraphSolver`.
    n_layers, hidden_channels
        Layers that make the bias, and the width of everything.
    kappa
        The factor of the contraction, above 0 and below 1.
    activation
        A pointwise function with slopes in [-1, 1].
    readout
        Whether nodes or graphs are predicted.
    rtol, max_steps
        Of the fixed-point iteration, relative to the largest entry; derivatives are found to
        ``rtol`` as well, or are NaN.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] F. Gu et al., "Implicit Graph Neural Networks", NeurIPS, 2020.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from sciml.numerics import Graph
    >>> graph = Graph.from_arrays(np.ones((3, 2)), np.ones((2, 1)), [0, 1], [1, 2])
    >>> ImplicitGraphNetwork(2, 1, 1, key=jax.random.key(7))(graph).shape
    (3, 1)
    """

    encoder: list[AttentionMessages]
    weight: Float[Array, "hidden hidden"]
    bias: ChannelLinear
    decoder: ChannelMLP
    node_channels: int = eqx.field(static=True)
    edge_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    kappa: float = eqx.field(static=True)
    activation: Activation = eqx.field(static=True)
    readout: Readout = eqx.field(static=True)
    rtol: float = eqx.field(static=True)
    max_steps: int = eqx.field(static=True)

    def __init__(
        self,
        node_channels: int,
        edge_channels: int,
        out_channels: int,
        *,
        n_layers: int = 1,
        hidden_channels: int = 32,
        kappa: float = 0.95,
        activation: Activation = jax.nn.relu,
        readout: Readout = Readout.NODES,
        rtol: float = 1e-4,
        max_steps: int = 500,
        key: KeyArray,
    ):
        self.node_channels = check_count("node_channels", node_channels)
        self.edge_channels = check_count("edge_channels", edge_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.n_layers = check_count("n_layers", n_layers)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        if not 0 < np.float32(kappa) < 1:
            raise ValueError(f"`kappa` must lie in (0, 1), also in float32, got {kappa!r}.")
        self.kappa = kappa
        self.activation = activation
        self.readout = readout
        check_positive("rtol", rtol)
        self.rtol, self.max_steps = float(rtol), check_count("max_steps", max_steps)
        keys = split_keys(key, 4)
        self.encoder = make_encoder(
            node_channels, edge_channels, hidden_channels, n_layers, key=keys[0]
        )
        self.bias = ChannelLinear(hidden_channels, hidden_channels, key=keys[1])
        self.weight = jnp.eye(hidden_channels, dtype=jnp.float32) + 0.1 * jax.random.normal(
            keys[2], (hidden_channels, hidden_channels), jnp.float32
        )
        self.decoder = ChannelMLP(
            hidden_channels, out_channels, hidden_channels, activation=jax.nn.silu, key=keys[3]
        )

    def __call__(self, graph: Graph) -> Float[Array, "n out_channels"]:
        """Return the prediction for each node, or for each graph."""
        return self.solve(graph).value

    @full_precision
    def solve(self, graph: Graph, *, throw: bool = True) -> Solution:
        """Return the prediction; ``stats`` with ``n_steps`` and the ``residual`` found.

        Parameters
        ----------
        graph
            As in `__call__`.
        throw
            Raise on failure.
        """
        nodes, edges = clean_features(graph, self.node_channels, self.edge_channels)
        z, _ = encode(self.encoder, graph, nodes, edges)
        bias = self.bias(jax.nn.silu(z).T).T
        size = jnp.sum(jnp.abs(self.weight), axis=1, keepdims=True)
        weight = self.weight / jnp.maximum(size / self.kappa, jnp.ones((), size.dtype))

        args = (bias, weight, graph.senders, graph.receivers, graph.edge_mask)
        frozen = jax.lax.stop_gradient(args)
        step = partial(_ignn_step, self.activation)
        x, result, n_steps = _iterate(
            lambda x: step(x, frozen), jnp.zeros_like(bias), self.rtol, self.kappa, self.max_steps
        )
        x = jax.lax.stop_gradient(x)
        stats = {
            "n_steps": n_steps,
            "residual": jnp.max(jnp.abs(step(x, frozen) - x), initial=0.0),
        }
        x = _with_rule((self.activation, self.rtol), x, args)
        value = self.decoder(read_out(self.readout, graph, x).T).T
        solution = Solution(value, result, stats)
        return throw_if_failed(solution) if throw else solution


def _iterate(step, x, rtol: float, kappa: float, max_steps: int):
    """Return the fixed point, the result and the steps; all in the dtype of ``x``.

    The error is below ``rtol`` of the largest entry, whatever that is: a step shrinks it by
    ``kappa``. Not ``optimistix.FixedPointIteration``, which takes JAX's default dtype for its
    error and so no float32 arrays where float64 is on.
    """
    eps = float(jnp.finfo(x.dtype).eps)

    def go_on(carry):
        _, error, k = carry
        return (error >= 1) & (k < max_steps)

    def body(carry):
        x, _, k = carry
        new = step(x)
        moved, size = (jnp.max(jnp.abs(y), initial=0.0) for y in (new - x, new))
        # What rounding leaves counts as found.
        allowed = max(rtol * (1 - kappa), 16 * eps) * size
        # Infinities are below their own tolerance, and NaN a step later, which ends the loop.
        found = (moved <= allowed) & jnp.isfinite(moved)
        error = jnp.where(found, jnp.zeros((), x.dtype), 1 + moved)
        return new, error, k + 1

    start = (x, jnp.full((), jnp.inf, x.dtype), jnp.zeros((), jnp.int32))
    x, error, n_steps = jax.lax.while_loop(go_on, body, start)
    members: Any = RESULTS  # its members are strings to a type checker
    failed = results_where(
        jnp.isnan(error), members.nonlinear_divergence, members.nonlinear_max_steps_reached
    )
    return x, results_where(error < 1, members.successful, failed), n_steps


def _ignn_step(activation, x, args):
    bias, weight, senders, receivers, mask = args
    brought = segment_mean(x[senders], receivers, len(x), mask=mask)
    return activation(brought @ weight.T.astype(x.dtype) + bias)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _with_rule(config, x, args):
    """Return ``x``, with the derivative of the fixed point."""
    return x


@_with_rule.defjvp
@full_precision
def _tangent(config, primals, tangents):
    """Differentiate by a Neumann series: in float32 a Krylov solver may break down."""
    activation, rtol = config
    _, args = primals
    # With the rule again, so that second derivatives know how the solution moves.
    x = _with_rule(config, *primals)
    step = partial(_ignn_step, activation)
    _, right = jax.jvp(partial(step, x), (args,), (tangents[1],))
    _, slope = jax.linearize(lambda y: step(y, args), x)
    change = jax.lax.custom_linear_solve(
        lambda v: v - slope(v), right, partial(_neumann, rtol), partial(_neumann, rtol)
    )
    return x, change


def _neumann(rtol: float, product, b):
    """Return the solution; NaN if it is not found, never one that is silently wrong."""
    eps = float(jnp.finfo(b.dtype).eps)

    def size(v):
        return jnp.max(jnp.abs(v), initial=0.0)

    def tolerance(v):
        # What rounding leaves counts as found.
        return jnp.maximum(rtol * size(b), 16 * eps * size(v))

    def go_on(carry):
        v, r, k = carry
        return (size(r) > tolerance(v)) & (k < _ADJOINT_STEPS)

    def body(carry):
        v, r, k = carry
        v = v + r
        return v, b - product(v), k + 1

    v, r, _ = jax.lax.while_loop(go_on, body, (jnp.zeros_like(b), b, 0))
    return jnp.where(size(r) <= tolerance(v), v, jnp.nan)
