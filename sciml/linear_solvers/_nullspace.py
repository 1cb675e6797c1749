"""The nullspace of a pure Neumann problem: one constant for each connected component."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse
from jaxtyping import Array, Bool, Float, Inexact, Int
from scipy.sparse.csgraph import connected_components

from ..core import check_finite, check_shape
from ..numerics._stencil import StencilOperator
from ._hermitian_matrix import known_to_scipy

# Row sums below this many roundings of the row's own size count as zero,
_ROUNDINGS = 32
# if on average over their component they stay below this many: a small multiple of the identity,
# as in an implicit step, has one sign, while a row's own rounding is seldom as large.
_MEAN_ROUNDINGS = 2


def constants_vanish(image: np.ndarray, size: float) -> bool:
    """Return whether an operator maps constants to zero but for rounding.

    Parameters
    ----------
    image
        What it makes of ones.
    size
        The largest entry of a row, summed without signs.
    """
    eps = np.finfo(image.dtype).eps
    is_small = np.abs(image).max() <= _ROUNDINGS * eps * size
    return bool(is_small and abs(image.mean()) <= _MEAN_ROUNDINGS * eps * size)


class ConstantNullspace(eqx.Module):
    """Vectors that are constant on components and zero elsewhere, and the projection off them.

    Parameters
    ----------
    labels
        Integers of the shape of the unknowns: cells with the same number form a component whose
        constants are in the nullspace; -1 marks cells that belong to none. A component of one
        cell (a solid cell with an empty row) is held at zero by the projection.

    Examples
    --------
    >>> import jax.numpy as jnp, numpy as np
    >>> nullspace = ConstantNullspace(np.array([0, 0, 1, -1]))
    >>> nullspace.project(jnp.array([1.0, 3.0, 5.0, 7.0])).tolist()
    [-1.0, 1.0, 0.0, 7.0]
    """

    labels: Int[Array | np.ndarray, "*space"]
    segments: Int[Array, "*space"]
    sizes: Int[Array, " n_components"]
    held: Bool[Array, "*space"]

    def __init__(self, labels: Int[np.ndarray, "*space"]):
        found, inverse, counts = _numbered(labels)
        large = (found >= 0) & (counts > 1)
        n_components = int(large.sum())
        # Cells outside all components go to one segment more, which is thrown away.
        numbers = np.full(found.size, n_components, np.int32)
        numbers[large] = np.arange(n_components)
        self.labels = labels
        self.segments = jnp.asarray(numbers[inverse])
        self.sizes = jnp.asarray(counts[large].astype(np.int32))
        self.held = jnp.asarray(((found >= 0) & (counts == 1))[inverse])

    def project(self, u: Inexact[Array, "*space"]) -> Inexact[Array, "*space"]:
        """Return ``u`` less its mean over each component (the orthogonal projection)."""
        n_components = self.sizes.size
        u = jnp.where(self.held, jnp.zeros((), u.dtype), u)
        if n_components == 0:
            return u
        sizes: Any = self.sizes.astype(u.dtype)
        if n_components == 1:
            inside = self.segments == 0
            mean = jnp.sum(jnp.where(inside, u, jnp.zeros((), u.dtype))) / sizes[0]
            return jnp.where(inside, u - mean, u)
        sums = jax.ops.segment_sum(u.reshape(-1), self.segments.reshape(-1), n_components + 1)
        means = jnp.append(sums[:-1] / sizes, jnp.zeros((), u.dtype))
        return u - means[self.segments]

    def project_on_host(self, u: np.ndarray) -> np.ndarray:
        """Return `project` of a flat NumPy vector, computed in NumPy."""
        segments = np.asarray(self.segments).ravel()
        inside = segments < self.sizes.size
        u = np.where(np.asarray(self.held).ravel(), u.dtype.type(0), u)
        means = np.zeros(self.sizes.size + 1, u.dtype)
        np.add.at(means, segments[inside], u[inside])
        means[:-1] /= np.asarray(self.sizes)
        return u - means[segments]


def _numbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the different labels in order, the place of each entry among them, their counts."""
    low, high = (int(f(labels, initial=-1)) for f in (np.min, np.max))
    if high - low > 2 * labels.size + 2:
        found, inverse, counts = np.unique(labels, return_inverse=True, return_counts=True)
        return found, inverse.reshape(labels.shape), counts
    # Numbers of components have few gaps: counting is ten times as fast as sorting.
    counts = np.bincount((labels - low).ravel(), minlength=high - low + 1)
    there = counts > 0
    inverse = (np.cumsum(there) - 1)[labels - low]
    return np.flatnonzero(there) + low, inverse, counts[there]


def constant_components(matrix: Any) -> Int[np.ndarray, " n"] | None:
    """Find the components of a symmetric matrix whose constants it maps to zero.

    Parameters
    ----------
    matrix
        Square: scipy.sparse, or a dense array.

    Returns
    -------
    numpy.ndarray or None
        For each unknown the number of its connected component if all rows of that component add
        up to zero (to rounding), otherwise -1; None if there is no such component.

    Examples
    --------
    A closed part of two cells, and one that is held:

    >>> import numpy as np
    >>> A = np.array([[1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [0.0, 0.0, 2.0]])
    >>> constant_components(A).tolist()
    [0, 0, -1]
    """
    if not scipy.sparse.issparse(matrix):
        check_shape("matrix", matrix, ("n", "n"))
        check_finite("matrix", matrix)  # that it holds numbers
        matrix = known_to_scipy(np.asarray(matrix))
    csr: Any = scipy.sparse.csr_array(matrix)
    check_shape("matrix", csr, ("n", "n"))
    if not csr.has_canonical_format or not np.all(csr.data):
        csr = csr.copy()
        csr.sum_duplicates()
        csr.eliminate_zeros()  # csgraph takes a stored zero for an edge
    size = csr.shape[0]
    sums = csr @ np.ones(size, np.result_type(csr.dtype, float))
    absolute = abs(csr) @ np.ones(size)
    eps = np.finfo(csr.dtype if csr.dtype.kind in "fc" else float).eps
    vanish = np.abs(sums) <= _ROUNDINGS * eps * absolute
    if not vanish.any():
        return None
    pattern = scipy.sparse.csr_array((np.ones(csr.nnz), csr.indices, csr.indptr), shape=csr.shape)
    # The pattern is symmetric, so that strong components are the connected ones, and cheaper.
    n_components, labels = connected_components(pattern, directed=True, connection="strong")
    return _singular_labels(labels, n_components, sums, absolute, vanish, eps)


def constant_components_on_grid(
    operator: StencilOperator, matrix: Any = None
) -> Int[np.ndarray, "*space"] | None:
    """Return `constant_components` of an operator on a grid, in its shape.

    Where all neighbours that take part are coupled, along the axes and without wrapping around,
    the components are those of a picture, which are found ten times as fast as those of a graph.

    Parameters
    ----------
    operator
        The operator.
    matrix
        The same as a sparse matrix, if it is at hand.
    """
    found = _labelled_picture(operator)
    if found is None:
        labels = constant_components(operator.to_scipy() if matrix is None else matrix)
    else:
        labels = _singular_labels(*found)
    return None if labels is None else labels.reshape(operator.n_points)


def _labelled_picture(operator: StencilOperator) -> tuple | None:
    """Return what `_singular_labels` takes, or None where a picture does not show components."""
    is_plain = all(sum(map(abs, offset)) == 1 for offset in operator.offsets)
    if any(operator.periodic) or not is_plain:
        return None
    from scipy.ndimage import label  # here: it is slow to import

    diagonal = np.asarray(operator.diagonal)
    sums, absolute = diagonal.astype(float), np.abs(diagonal).astype(float)
    active = diagonal != 0
    n_coupled = n_beside = 0
    for coupling, offset in zip(np.asarray(operator.couplings), operator.offsets, strict=True):
        axis = int(np.flatnonzero(offset)[0])
        coupling = np.moveaxis(coupling, axis, 0)
        coupling = coupling[:-1] if offset[axis] == 1 else coupling[1:]
        size = np.abs(coupling)
        for total, term in ((sums, coupling), (absolute, size)):
            along = np.moveaxis(total, axis, 0)
            along[:-1] += term
            along[1:] += term
        beside = np.moveaxis(active, axis, 0)
        n_beside += np.count_nonzero(beside[:-1] & beside[1:])
        n_coupled += np.count_nonzero(coupling)
    if n_coupled != n_beside or len(operator.offsets) < active.ndim:
        return None
    found: Any = label(active)
    labels, n_regions = found
    # Each solid cell is a component of its own, as an empty row of a matrix is.
    labels = labels.astype(np.intp) - 1
    n_solid = active.size - np.count_nonzero(active)
    labels[~active] = n_regions + np.arange(n_solid)
    n_components = int(n_regions + n_solid)
    eps = np.finfo(diagonal.dtype).eps
    vanish = np.abs(sums) <= _ROUNDINGS * eps * absolute
    flat = (part.ravel() for part in (sums, absolute, vanish))
    return labels.ravel(), n_components, *flat, eps


def _singular_labels(
    labels: Int[np.ndarray, " n"],
    n_components: int,
    sums: Inexact[np.ndarray, " n"],
    absolute: Float[np.ndarray, " n"],
    vanish: Bool[np.ndarray, " n"],
    eps: np.floating,
) -> Int[np.ndarray, " n"] | None:
    """Keep the labels of components whose rows add up to zero, and put -1 elsewhere."""
    if not vanish.any():
        return None
    total = np.bincount(labels, np.real(sums), n_components)
    if np.iscomplexobj(sums):
        total = total + 1j * np.bincount(labels, np.imag(sums), n_components)
    whole = np.bincount(labels, absolute, n_components)
    singular = np.abs(total) <= _MEAN_ROUNDINGS * eps * whole
    singular[labels[~vanish]] = False
    if not singular.any():
        return None
    return np.where(singular[labels], labels, -1)
