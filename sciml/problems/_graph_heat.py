r"""Heat on a graph: one implicit step :math:`(1 + t L) u = u_0`, and the heat equation itself."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ..core import KeyArray, check_count, check_key, check_positive
from ..numerics import Graph


class GraphHeat(eqx.Module):
    """A graph with an initial temperature and what becomes of it.

    Attributes
    ----------
    graph
        Nodes are ``[u_0]``, edges ``[weight]``, in both directions.
    implicit
        The temperature after one implicit Euler step, float64, shape ``(n_nodes,)``.
    exact
        That of the heat equation itself at the same time.
    positions
        Shape ``(n_nodes, 2)``, for pictures.
    time
        How long heat flows.
    """

    graph: Graph
    implicit: np.ndarray
    exact: np.ndarray
    positions: np.ndarray
    time: float = eqx.field(static=True)


def graph_heat(
    n_nodes: int, *, key: KeyArray, time: float = 1.0, n_neighbours: int = 5
) -> GraphHeat:
    """Return heat on a random graph of near neighbours in the unit square.

    Parameters
    ----------
    n_nodes
        Number of nodes.
    key
        PRNG key.
    time
        How long heat flows, in units of the inverse weights.
    n_neighbours
        Each node is joined with that many nearest ones; weights are uniform in [0.5, 1.5].

    Raises
    ------
    ValueError
        If there are not more nodes than neighbours, or ``time`` is not positive.

    Examples
    --------
    >>> import jax
    >>> heat = graph_heat(30, key=jax.random.key(7))
    >>> u0 = heat.graph.nodes[:, 0]
    >>> bool(abs(heat.implicit.sum() - u0.sum()) < 1e-5 * abs(u0).sum())
    True
    """
    check_count("n_neighbours", n_neighbours)
    check_count("n_nodes", n_nodes, minimum=n_neighbours + 1)
    check_positive("time", time)
    check_key(key)
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    positions = rng.uniform(size=(n_nodes, 2))
    from scipy.spatial import KDTree  # here: it is slow to import

    _, near = KDTree(positions).query(positions, n_neighbours + 1)
    pairs = np.stack([np.repeat(np.arange(n_nodes), n_neighbours), near[:, 1:].ravel()], 1)
    ends = np.unique(np.sort(pairs, axis=1), axis=0)
    weight = rng.uniform(0.5, 1.5, len(ends)).astype(np.float32).astype(np.float64)
    u0 = rng.normal(size=n_nodes).astype(np.float32).astype(np.float64)
    i, j = ends.T
    rows, columns, twice = np.r_[i, j], np.r_[j, i], np.tile(weight, 2)
    w = scipy.sparse.coo_array((twice, (rows, columns)), (n_nodes, n_nodes)).tocsr()
    laplacian = (scipy.sparse.diags_array(w.sum(axis=1)) - w).tocsc()
    implicit: Any = scipy.sparse.linalg.spsolve(
        scipy.sparse.eye_array(n_nodes, format="csc") + time * laplacian, u0
    )
    exact = scipy.sparse.linalg.expm_multiply(-time * laplacian, u0)
    graph = Graph.from_arrays(
        u0[:, None].astype(np.float32), twice[:, None].astype(np.float32), rows, columns
    )
    return GraphHeat(graph, implicit, exact, positions, float(time))
