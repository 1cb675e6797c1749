r"""Convergent graph solvers (Park, Choo and Park, ICLR 2022).

An encoder makes, for each head, a matrix on the edges with rows that sum to 1 at most, a bias and
factors below 1; the prediction is read off the fixed point :math:`h = \phi(\Gamma A h + b)`, which
depends on the whole graph, however large it is.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from ..core import (
    Activation,
    KeyArray,
    Solution,
    check_count,
    cites,
    is_successful,
    results_where,
    split_keys,
)
from ..nn import AttentionMessages, ChannelLinear, ChannelMLP
from ..numerics import Graph, full_precision, segment_sum
from ._bibliography import PARK_2022
from ._contraction_solvers import AbstractContractionSolver, AutoSolver
from ._encoder import Edges, Nodes, clean_features, encode, make_encoder, read_out
from ._rows import (
    Aggregation,
    FactorKind,
    MessageDirection,
    Readout,
    RowNormaliser,
    contraction_rows,
)
from ._solve_contraction import solve_contraction
from ._solve_max_contraction import solve_max_contraction

# The slope of an absorbing factor's sigmoid: it has to come near both 0 and 1.
_SHARPNESS = 4.0


class GraphMapOptions(eqx.Module):
    """How a `ConvergentGraphSolver` builds its map and solves for the fixed point.

    Parameters
    ----------
    gamma
        The factor, or what bounds it from above: from 0 to below 1. Influence decays at least by
        it from node to node.
    factor
        Whether it is fixed, learned or a function of the node.
    rows
        How logits become rows.
    direction
        Which end of an edge is the row.
    aggregation
        Whether a node takes a weighted sum over its edges or a maximum. With a maximum there is
        value iteration: neither ``rows`` nor the kind of ``solver`` counts.
    activation
        None for a linear map, or a pointwise function with slopes in [-1, 1]
        (``jax.numpy.tanh``, ``jax.nn.relu``).
    solver, adjoint_solver
        As in `solve_contraction`.

    Examples
    --------
    The published configuration:

    >>> options = GraphMapOptions(
    ...     gamma=0.5, factor=FactorKind.FIXED, rows=RowNormaliser.CLIP_DEGREE,
    ...     direction=MessageDirection.TO_SENDER,
    ... )
    >>> options.gamma
    0.5
    """

    gamma: float = eqx.field(static=True, default=0.99)
    factor: FactorKind = eqx.field(static=True, default=FactorKind.NODEWISE)
    rows: RowNormaliser = eqx.field(static=True, default=RowNormaliser.SOFTMAX)
    direction: MessageDirection = eqx.field(static=True, default=MessageDirection.TO_RECEIVER)
    aggregation: Aggregation = eqx.field(static=True, default=Aggregation.SUM)
    activation: Activation | None = eqx.field(static=True, default=None)
    solver: AbstractContractionSolver = AutoSolver(rtol=1e-5)
    adjoint_solver: AbstractContractionSolver = AutoSolver(rtol=1e-4)

    def __check_init__(self):
        if not 0 <= np.float32(self.gamma) < 1:
            raise ValueError(f"`gamma` must lie in [0, 1), also in float32, got {self.gamma!r}.")
        averages = self.aggregation is Aggregation.SUM and self.rows is RowNormaliser.SOFTMAX
        if self.factor is FactorKind.ABSORBING and not (averages and self.activation is None):
            raise ValueError(
                "`FactorKind.ABSORBING` takes means: it needs `Aggregation.SUM`, "
                "`RowNormaliser.SOFTMAX` and no `activation`."
            )
        if self.activation is not None and self.aggregation is Aggregation.MAXIMUM:
            raise ValueError("an `activation` needs `aggregation=Aggregation.SUM`.")
        if self.activation is not None and self.solver.linear_only():
            raise ValueError(
                f"{type(self.solver).__name__} solves linear systems, and there is an activation. "
                "Take PicardSolver, AndersonSolver or AutoSolver."
            )


@cites(PARK_2022)
class ConvergentGraphSolver(eqx.Module):
    """Graph network that predicts by solving for the fixed point of a contraction.

    Parameters
    ----------
    node_channels, edge_channels
        Channels of the graph.
    out_channels
        Channels of the prediction.
    heads
        Number of fixed points, which the decoder reads together.
    n_layers
        Layers of message passing before the map is built.
    hidden_channels
        Width of encoder and decoder.
    n_solves
        Fixed points one after the other; each map sees the solution before. Two or three of them
        can do what policy iteration does for Markov decision processes. 1 is the published method.
    options
        How the map is built and solved.
    readout
        Whether nodes or graphs are predicted.
    key
        PRNG key of the initial weights.

    References
    ----------
    .. [1] J. Park, J. Choo and J. Park, "Convergent Graph Solvers", ICLR, 2022.

    Examples
    --------
    >>> import jax, numpy as np
    >>> from sciml.numerics import Graph
    >>> graph = Graph.from_arrays(np.ones((3, 2)), np.ones((2, 1)), [0, 1], [1, 2])
    >>> model = ConvergentGraphSolver(2, 1, 1, heads=4, key=jax.random.key(7))
    >>> model(graph).shape
    (3, 1)
    >>> solution = model.solve(graph)
    >>> bool(solution.stats["factor"] < 1), bool(solution.stats["error_bound"] < 1e-3)
    (True, True)
    """

    encoders: list[list[AttentionMessages]]
    biases: list[ChannelLinear]
    logits: list[ChannelLinear]
    factors: list[ChannelLinear | Float[Array, " heads"] | None]
    decoder: ChannelMLP
    node_channels: int = eqx.field(static=True)
    edge_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    heads: int = eqx.field(static=True)
    n_layers: int = eqx.field(static=True)
    hidden_channels: int = eqx.field(static=True)
    n_solves: int = eqx.field(static=True)
    options: GraphMapOptions
    readout: Readout = eqx.field(static=True)

    def __init__(
        self,
        node_channels: int,
        edge_channels: int,
        out_channels: int,
        *,
        heads: int = 16,
        n_layers: int = 1,
        hidden_channels: int = 32,
        n_solves: int = 1,
        options: GraphMapOptions | None = None,
        readout: Readout = Readout.NODES,
        key: KeyArray,
    ):
        self.node_channels = check_count("node_channels", node_channels)
        self.edge_channels = check_count("edge_channels", edge_channels)
        self.out_channels = check_count("out_channels", out_channels)
        self.heads = check_count("heads", heads)
        self.n_layers = check_count("n_layers", n_layers)
        self.hidden_channels = check_count("hidden_channels", hidden_channels)
        self.n_solves = check_count("n_solves", n_solves)
        self.options = GraphMapOptions() if options is None else options
        self.readout = readout
        keys = split_keys(key, 4 * n_solves + 1)
        # What logits start at: where the clip has a slope; and factors near their bound.
        middle = 0.5 if self.options.rows is RowNormaliser.CLIP_DEGREE else 0.0
        self.encoders, self.biases, self.logits, self.factors = [], [], [], []
        for i in range(n_solves):
            width, (k0, k1, k2, k3) = hidden_channels, keys[4 * i : 4 * i + 4]
            n_in = node_channels + (heads if i else 0)
            self.encoders.append(make_encoder(n_in, edge_channels, width, n_layers, key=k0))
            self.biases.append(ChannelLinear(width, heads, key=k1))
            self.logits.append(_linear_from(middle, width, heads, key=k2))
            factor = None
            if self.options.factor is FactorKind.LEARNED:
                factor = jnp.full(heads, 3.0, jnp.float32)
            elif self.options.factor is FactorKind.NODEWISE:
                factor = _linear_from(3.0, width, heads, key=k3)
            elif self.options.factor is FactorKind.ABSORBING:
                factor = _linear_from(0.3, width, heads, key=k3)
            self.factors.append(factor)
        self.decoder = ChannelMLP(
            heads, out_channels, hidden_channels, activation=jax.nn.silu, key=keys[-1]
        )

    @full_precision
    def __call__(self, graph: Graph) -> Float[Array, "n out_channels"]:
        """Return the prediction for each node, or for each graph.

        Parameters
        ----------
        graph
            One or more graphs (`sciml.numerics.batch_graphs`). Rows of padded nodes mean nothing.

        Raises
        ------
        ValueError
            If the channels of the graph are not those of the model.
        RuntimeError
            If the fixed point is not reached within the solver's steps, or features are not finite.
        """
        return self.solve(graph).value

    @full_precision
    def solve(
        self,
        graph: Graph,
        *,
        y0: Float[Array, "n_nodes heads"] | None = None,
        throw: bool = True,
    ) -> Solution:
        """Return the prediction with the certificate of the last fixed point.

        Parameters
        ----------
        graph
            As in `__call__`.
        y0
            Where the fixed points are started from: ``stats["state"]`` of a similar graph.
        throw
            Raise on failure.

        Returns
        -------
        Solution
            ``stats`` are those of `solve_contraction`, ``n_steps`` over all solves, ``error_bound``
            and ``residual`` the largest, with the fixed point as ``state``.
        """
        nodes, edges = clean_features(graph, self.node_channels, self.edge_channels)
        seen, solutions = nodes, []
        for i in range(self.n_solves):
            found = self._solve_one(i, graph, seen, edges, y0, throw)
            solutions.append(found)
            seen = jnp.concatenate([nodes, found.value], axis=1)
        h = solutions[-1].value
        result = solutions[0].result
        for other in solutions[1:]:
            result = results_where(is_successful(result), other.result, result)
        stats = {
            "n_steps": sum(s.stats["n_steps"] for s in solutions),
            **{
                name: jnp.max(jnp.stack([s.stats[name] for s in solutions]))
                for name in ("residual", "factor", "error_bound")
            },
            "state": h,
        }
        if self.readout is not Readout.NODES:
            h = read_out(self.readout, graph, h)
        return Solution(self.decoder(h.T).T, result, stats)

    def _solve_one(self, i: int, graph: Graph, nodes: Nodes, edges: Edges, y0, throw) -> Solution:
        """Return fixed point number ``i``."""
        options = self.options
        nodes, edges = encode(self.encoders[i], graph, nodes, edges)
        z, n, dtype = jax.nn.silu(nodes).T, len(nodes), nodes.dtype
        rows, columns = graph.receivers, graph.senders
        if options.direction is MessageDirection.TO_SENDER:
            rows, columns = columns, rows
        logits = self.logits[i](jax.nn.silu(edges).T).T
        ones = jnp.ones(len(rows), dtype)
        has_edges = segment_sum(ones, rows, n, mask=graph.edge_mask)[:, None] > 0
        gamma, share = self._factor(i, z, has_edges)
        b = jnp.where(graph.node_mask[:, None], share * self.biases[i](z).T, jnp.zeros((), dtype))
        solver, adjoint = options.solver, options.adjoint_solver
        if options.aggregation is Aggregation.MAXIMUM:
            return solve_max_contraction(
                logits, b, rows, columns, gamma=gamma, mask=graph.edge_mask, rtol=solver.rtol,
                atol=solver.atol, max_steps=solver.max_steps, adjoint_solver=adjoint, y0=y0,
                throw=throw,
            )  # fmt: skip
        a = contraction_rows(logits, rows, n, kind=options.rows, mask=graph.edge_mask)
        return solve_contraction(
            a, b, rows, columns, gamma=gamma, activation=options.activation, solver=solver,
            adjoint_solver=adjoint, y0=y0, throw=throw,
        )  # fmt: skip

    def _factor(self, i: int, z: Array, has_edges: Array) -> tuple[Array, Array]:
        """Return the factor of the contraction, and what the bias is multiplied by."""
        options, factor = self.options, self.factors[i]
        whole = jnp.ones((), z.dtype)
        if factor is None:
            return jnp.asarray(options.gamma, z.dtype), whole
        if not isinstance(factor, ChannelLinear):
            gamma = options.gamma * jax.nn.sigmoid(factor.astype(z.dtype))
            return jnp.broadcast_to(gamma, (z.shape[1], self.heads)), whole
        logits = factor(z).T
        if options.factor is FactorKind.NODEWISE:
            return options.gamma * jax.nn.sigmoid(logits), whole
        # A node that nothing reaches holds its value.
        logits = _SHARPNESS * logits
        passed_on = jnp.where(has_edges, jax.nn.sigmoid(logits), jnp.zeros_like(whole))
        # Not one minus the other: what is left may be far below rounding.
        return options.gamma * passed_on, jnp.where(has_edges, jax.nn.sigmoid(-logits), whole)


def _linear_from(start: float, in_channels: int, out_channels: int, *, key: KeyArray):
    """Return an affine map with this bias."""
    layer = ChannelLinear(in_channels, out_channels, key=key)
    return eqx.tree_at(lambda m: m.bias, layer, jnp.full(out_channels, start, jnp.float32))
