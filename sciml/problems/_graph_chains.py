"""Chains whose class is told at one end only, which tell how far a graph network sees."""

import equinox as eqx
import jax
import numpy as np

from ..core import KeyArray, check_count, check_key
from ..numerics import Graph


class Chain(eqx.Module):
    """A chain and the class of its nodes.

    Attributes
    ----------
    graph
        Nodes are ``[one-hot class, noise]``, where the class is all zero except at the first
        node; edges ``[1]``, in both directions.
    label
        The class of all nodes.
    """

    graph: Graph
    label: int = eqx.field(static=True)


def chain(length: int, n_classes: int, label: int, *, key: KeyArray, n_noise: int = 2) -> Chain:
    """Return a chain of the class ``label``.

    Parameters
    ----------
    length
        Number of nodes.
    n_classes, label
        Number of classes, and which of them this is.
    key
        PRNG key of the noise.
    n_noise
        Channels of noise beside the class.

    Raises
    ------
    ValueError
        If the label is none of the classes.

    Examples
    --------
    >>> import jax
    >>> chain(10, 2, 1, key=jax.random.key(7)).graph.nodes.shape
    (10, 4)
    """
    check_count("length", length)
    check_count("n_classes", n_classes)
    check_count("n_noise", n_noise, minimum=0)
    check_key(key)
    if not 0 <= label < n_classes:
        raise ValueError(f"`label` must be 0 to {n_classes - 1}, got {label!r}.")
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    nodes = np.zeros((length, n_classes + n_noise), np.float32)
    nodes[0, label] = 1.0
    nodes[:, n_classes:] = 0.1 * rng.normal(size=(length, n_noise))
    left, right = np.arange(length - 1), np.arange(1, length)
    edges = np.ones((2 * (length - 1), 1), np.float32)
    graph = Graph.from_arrays(nodes, edges, np.r_[left, right], np.r_[right, left])
    return Chain(graph, label)
