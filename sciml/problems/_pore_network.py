r"""Flow through a network of pores, solved exactly: :math:`\sum_j k_{ij} (P_i - P_j) = 0`.

Pores are random points of a cube joined by Delaunay's tessellation; conductances are log-normal.
The pressure is 1 in the layer at one face and 0 in the layer at the opposite one.
"""

import equinox as eqx
import jax
import numpy as np
import scipy.sparse
import scipy.sparse.linalg

from ..core import KeyArray, check_count, check_key, check_non_negative
from ..numerics import Graph


class PoreNetwork(eqx.Module):
    """A network, its exact pressure, and what a network is trained on.

    Attributes
    ----------
    graph
        Without coordinates: nodes are ``[is boundary, boundary pressure]``, edges ``[ln k]``,
        in both directions.
    pressure
        Float64, shape ``(n_nodes,)``.
    is_boundary
        Shape ``(n_nodes,)``.
    positions
        Shape ``(n_nodes, dim)``, in units of the cube's side.
    ends
        The throats, each once: shape ``(n_throats, 2)``.
    conductance
        Of each throat, float64.
    """

    graph: Graph
    pressure: np.ndarray
    is_boundary: np.ndarray
    positions: np.ndarray
    ends: np.ndarray
    conductance: np.ndarray

    def straight_line(self) -> np.ndarray:
        """Return the trivial prediction: linear in the first coordinate from layer to layer."""
        x, is_boundary = self.positions[:, 0], self.is_boundary
        low = x[is_boundary & (x < 0.5)].mean()
        high = x[is_boundary & (x > 0.5)].mean()
        line = np.clip((high - x) / (high - low), 0.0, 1.0)
        return np.where(is_boundary, self.pressure, line)

    def imbalance(self, pressure: np.ndarray) -> float:
        r"""Return how far flow is from conserved at interior pores.

        The sum over interior pores of :math:`|\sum_j k_{ij} (P_i - P_j)|` over that of the flows
        through all throats; 0 for the exact pressure.
        """
        i, j = self.ends.T
        flow = self.conductance * (pressure[i] - pressure[j])
        net = np.bincount(i, flow, len(pressure)) - np.bincount(j, flow, len(pressure))
        return float(np.abs(net[~self.is_boundary]).sum() / np.abs(flow).sum())


def pore_network(
    n_nodes: int, *, key: KeyArray, log_conductance_std: float = 1.5, dim: int = 3
) -> PoreNetwork:
    """Return a random network with its exact pressure.

    Parameters
    ----------
    n_nodes
        Pores, those of the boundary layers included.
    key
        PRNG key.
    log_conductance_std
        Standard deviation of ``ln k``.
    dim
        2 or 3.

    Raises
    ------
    ValueError
        If ``n_nodes`` is below 16, or ``dim`` is neither 2 nor 3.

    Examples
    --------
    >>> import jax
    >>> network = pore_network(40, key=jax.random.key(7))
    >>> network.pressure.shape, network.imbalance(network.pressure) < 1e-12
    ((40,), True)
    """
    check_count("n_nodes", n_nodes, minimum=16)
    check_non_negative("log_conductance_std", log_conductance_std)
    check_key(key)
    if dim not in (2, 3):
        raise ValueError(f"`dim` must be 2 or 3, got {dim!r}.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    positions = rng.uniform(size=(n_nodes, dim))
    width = 0.5 * n_nodes ** (-1 / dim)
    x = positions[:, 0]
    inlet, outlet = x < max(width, np.sort(x)[0]), x > min(1 - width, np.sort(x)[-1])
    inlet[np.argmin(x)] = outlet[np.argmax(x)] = True
    from scipy.spatial import Delaunay  # here: it is slow to import

    cells = Delaunay(positions).simplices
    pairs = np.concatenate([cells[:, [a, b]] for a in range(dim + 1) for b in range(a)])
    ends = np.unique(np.sort(pairs, axis=1), axis=0)
    k = np.exp(log_conductance_std * rng.normal(size=len(ends)))
    is_boundary = inlet | outlet
    pressure = _solve(ends, k, is_boundary, inlet.astype(float))
    nodes = np.stack([is_boundary, inlet], 1).astype(np.float32)
    graph = Graph.from_arrays(
        nodes,
        np.log(np.tile(k, 2))[:, None].astype(np.float32),
        np.concatenate([ends[:, 0], ends[:, 1]]),
        np.concatenate([ends[:, 1], ends[:, 0]]),
    )
    return PoreNetwork(graph, pressure, is_boundary, positions, ends, k)


def _solve(ends, k, is_boundary, values):
    n = len(values)
    i, j = ends.T
    w = scipy.sparse.coo_array((np.tile(k, 2), (np.r_[i, j], np.r_[j, i])), (n, n)).tocsr()
    laplacian = (scipy.sparse.diags_array(w.sum(axis=1)) - w).tocsr()
    free = np.flatnonzero(~is_boundary)
    right = -(laplacian[free] @ np.where(is_boundary, values, 0.0))
    pressure = np.where(is_boundary, values, 0.0)
    if len(free):
        pressure[free] = scipy.sparse.linalg.spsolve(laplacian[free][:, free].tocsc(), right)
    return pressure
