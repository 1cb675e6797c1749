"""Sparse matrices for JAX, in the layout that XLA runs fastest: diagonals, padded rows, a tail.

A product is one or more of three parts. Diagonals that are well filled (matrices from grids)
need no index: each is a shifted copy of the vector times an array. What is left of each row goes
into rows padded to one width, a gather and a sum. Entries beyond that width (a few long rows) are
added by segments. Measured on one CPU core with the 5-point matrix of a 256 x 256 grid in float64:
diagonals 0.10 ms, padded rows 0.25 ms, SciPy's CSR 0.23 ms, `jax.ops.segment_sum` 0.57 ms,
`jax.experimental.sparse.BCSR` 2.6 ms; with its unknowns shuffled: padded rows 0.44 ms, SciPy
0.36 ms, segments 1.4 ms, BCSR 2.6 ms.
"""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact, Int

from ..core import check_array

# A diagonal costs 0.4 of what its entries would cost as padded rows, and an entry of the tail 2.4
# times as much (the measurements above).
_LEAST_FILL = 0.4
_TAIL_COST = 2.4
# Each diagonal is a piece of the compiled program.
_MOST_DIAGONALS = 64


class SparseMatrix(eqx.Module):
    """A sparse matrix of any shape for JAX, on CPU and GPU; made by `from_scipy`.

    The constructor takes the layout as it is stored; `from_scipy` chooses it.

    Parameters
    ----------
    diagonals
        Shape ``(n_diagonals, n_rows)``: ``diagonals[k, i] = A[i, i + offsets[k]]``, 0 outside.
    values
        Shape ``(n_rows, width)``: further entries of each row, filled up with 0.
    columns
        Shape ``(n_rows, width)``: their columns; ``n_columns`` at places that are filled up.
    tail_values, tail_rows, tail_columns
        Shape ``(n_tail,)``: entries that fit in neither, sorted by row.
    slots
        Shape ``(n_entries,)``: where each entry, in the order of SciPy's CSR, lies in
        ``diagonals``, ``values`` and ``tail_values`` laid end to end.
    offsets
        Which diagonals are stored.
    shape
        ``(n_rows, n_columns)``.

    Notes
    -----
    A gradient with respect to the arrays themselves has entries at places inside stored
    diagonals where the matrix has none. Differentiate through `with_data` to stay on the pattern.

    Examples
    --------
    >>> import jax.numpy as jnp, scipy.sparse
    >>> matrix = scipy.sparse.csr_array([[4.0, -1.0, 0.0], [-1.0, 4.0, 0.0], [0.0, 0.0, 2.0]])
    >>> SparseMatrix.from_scipy(matrix).mv(jnp.array([1.0, 2.0, 3.0])).tolist()
    [2.0, 7.0, 6.0]
    """

    diagonals: Inexact[Array, "n_diagonals n_rows"]
    values: Inexact[Array, "n_rows width"]
    columns: Int[Array, "n_rows width"]
    tail_values: Inexact[Array, " n_tail"]
    tail_rows: Int[Array, " n_tail"]
    tail_columns: Int[Array, " n_tail"]
    slots: Int[Array, " n_entries"]
    offsets: tuple[int, ...] = eqx.field(static=True, converter=tuple)
    shape: tuple[int, int] = eqx.field(static=True)

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of the entries."""
        return self.values.dtype

    @property
    def nnz(self) -> int:
        """The number of stored entries."""
        return self.slots.size

    @property
    def data(self) -> Inexact[Array, " n_entries"]:
        """The entries in the order of SciPy's CSR (by row, then by column)."""
        return self._laid_end_to_end()[self.slots]

    def _laid_end_to_end(self) -> Inexact[Array, " n_slots"]:
        return jnp.concatenate(
            [self.diagonals.reshape(-1), self.values.reshape(-1), self.tail_values]
        )

    def mv(
        self, x: Inexact[Array, " n_columns"] | Inexact[Array, "n_columns k"]
    ) -> Inexact[Array, " n_rows"] | Inexact[Array, "n_rows k"]:
        """Return ``A x``.

        Parameters
        ----------
        x
            Shape ``(n_columns,)``, or ``(n_columns, k)`` for ``k`` vectors at once. The result
            has the wider of both dtypes.
        """
        check_array("x", x)
        n_rows, n_columns = self.shape
        if x.ndim not in (1, 2) or x.shape[0] != n_columns:
            raise ValueError(
                f"`x` must have shape ({n_columns},) or ({n_columns}, k) for a matrix of shape "
                f"{self.shape}, got {x.shape}."
            )
        dtype = np.promote_types(self.dtype, x.dtype)
        x = x.astype(dtype)
        trailing = x.ndim - 1

        def against_rows(entries: Array) -> Array:
            entries = entries.astype(dtype)
            return entries.reshape(*entries.shape, *(1,) * trailing)

        zero = jnp.zeros((), dtype)
        result = jnp.zeros((n_rows, *x.shape[1:]), dtype)
        for diagonal, offset in zip(self.diagonals, self.offsets, strict=True):
            # A negative amount cuts off: entry i of this is x[i + offset], or 0 outside.
            edges = [(-offset, n_rows - n_columns + offset, 0)] + [(0, 0, 0)] * trailing
            result += against_rows(diagonal) * jax.lax.pad(x, zero, edges)
        if self.values.size:
            # The extra 0 is where filled-up places point, so that they never read an infinity.
            extended = jnp.concatenate([x, jnp.zeros((1, *x.shape[1:]), dtype)])
            gathered = extended.at[self.columns].get(mode="promise_in_bounds")
            result += jnp.sum(against_rows(self.values) * gathered, axis=1)
        if self.tail_values.size:
            gathered = x.at[self.tail_columns].get(mode="promise_in_bounds")
            result += jax.ops.segment_sum(
                against_rows(self.tail_values) * gathered,
                self.tail_rows,
                n_rows,
                indices_are_sorted=True,
            )
        return result

    def astype(self, dtype: DTypeLike) -> "SparseMatrix":
        """Return the matrix with entries of another precision."""
        return self._replace(
            self.diagonals.astype(dtype), self.values.astype(dtype), self.tail_values.astype(dtype)
        )

    def with_data(self, data: Inexact[Array, " n_entries"]) -> "SparseMatrix":
        """Return a matrix of the same pattern with other entries; differentiable in ``data``.

        Parameters
        ----------
        data
            Shape ``(n_entries,)``, in the order of `data`.
        """
        if data.shape != self.slots.shape:
            raise ValueError(f"`data` must have shape {self.slots.shape}, got {data.shape}.")
        sizes = np.cumsum([self.diagonals.size, self.values.size, self.tail_values.size])
        flat = jnp.zeros(int(sizes[-1]), data.dtype).at[self.slots].set(data)
        diagonals, values, tail = flat[: sizes[0]], flat[sizes[0] : sizes[1]], flat[sizes[1] :]
        return self._replace(
            diagonals.reshape(self.diagonals.shape), values.reshape(self.values.shape), tail
        )

    def _replace(self, diagonals: Array, values: Array, tail_values: Array) -> "SparseMatrix":
        return SparseMatrix(
            diagonals,
            values,
            self.columns,
            tail_values,
            self.tail_rows,
            self.tail_columns,
            self.slots,
            self.offsets,
            self.shape,
        )

    def as_lineax(
        self, *, symmetric: bool = False, positive_semidefinite: bool = False
    ) -> lx.FunctionLinearOperator:
        """Return a lineax operator; the tags are the caller's promise and are not checked.

        Parameters
        ----------
        symmetric
            Tag it symmetric.
        positive_semidefinite
            Tag it symmetric and positive semidefinite, as conjugate gradients require.
        """
        tags: list[object] = []
        if symmetric or positive_semidefinite:
            if self.shape[0] != self.shape[1]:
                raise ValueError(f"a symmetric matrix is square, this one has shape {self.shape}.")
            tags.append(lx.symmetric_tag)
        if positive_semidefinite:
            tags.append(lx.positive_semidefinite_tag)
        structure = jax.ShapeDtypeStruct((self.shape[1],), self.dtype)
        return lx.FunctionLinearOperator(self.mv, structure, tags)

    def to_scipy(self) -> scipy.sparse.csr_array:
        """Return the matrix as SciPy's CSR."""
        n_rows, n_columns = self.shape
        slots = np.asarray(self.slots)
        rows = np.empty(slots.size, np.int32)
        columns = np.empty(slots.size, np.int32)
        in_diagonals = slots < self.diagonals.size
        which, row = np.divmod(slots[in_diagonals], max(n_rows, 1))
        rows[in_diagonals] = row
        columns[in_diagonals] = row + np.array(self.offsets, np.int32)[which]
        in_tail = slots >= self.diagonals.size + self.values.size
        position = slots[in_tail] - self.diagonals.size - self.values.size
        rows[in_tail] = np.asarray(self.tail_rows)[position]
        columns[in_tail] = np.asarray(self.tail_columns)[position]
        in_rows = ~(in_diagonals | in_tail)
        position = slots[in_rows] - self.diagonals.size
        rows[in_rows] = position // max(self.values.shape[1], 1)
        columns[in_rows] = np.asarray(self.columns).ravel()[position]
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n_rows))])
        return scipy.sparse.csr_array(
            (np.asarray(self.data), columns, starts.astype(np.int32)), shape=(n_rows, n_columns)
        )

    @classmethod
    def from_scipy(
        cls,
        matrix: scipy.sparse.sparray | scipy.sparse.spmatrix,
        dtype: DTypeLike | None = None,
    ) -> "SparseMatrix":
        """Read a sparse matrix of any format and choose the layout.

        Parameters
        ----------
        matrix
            Any shape. Integers become floating-point numbers; duplicate entries are added up.
        dtype
            Precision of the entries; that of ``matrix`` by default (float32 while
            ``jax_enable_x64`` is off).

        Raises
        ------
        ValueError
            If it has an axis other than two, or too many entries for 32-bit indices.
        """
        csr = _canonical(matrix)
        n_rows, n_columns = csr.shape
        rows = np.repeat(np.arange(n_rows, dtype=np.int32), np.diff(csr.indptr))
        diagonal_of, offsets = _well_filled_diagonals(csr, rows)
        off_diagonals = diagonal_of < 0
        width, place = _padded_rows(rows[off_diagonals], n_rows)
        n_diagonal, n_padded = len(offsets) * n_rows, n_rows * width
        in_tail = place >= width
        n_tail = int(in_tail.sum())
        if n_diagonal + n_padded + n_tail >= 2**31:
            raise ValueError(
                f"a matrix with {csr.nnz} entries in {n_rows} rows does not fit 32-bit indices."
            )
        slots = diagonal_of * np.int32(n_rows) + rows
        further = n_diagonal + rows[off_diagonals] * np.int32(width) + place
        further[in_tail] = n_diagonal + n_padded + np.arange(n_tail)
        slots[off_diagonals] = further

        if dtype is None:
            dtype = np.result_type(csr.dtype, np.float32)
        flat = np.zeros(n_diagonal + n_padded + n_tail, dtype)
        flat[slots] = csr.data
        columns = np.full(n_rows * width, n_columns, np.int32)
        rest = csr.indices[off_diagonals]
        columns[further[~in_tail] - n_diagonal] = rest[~in_tail]
        return cls(
            jnp.asarray(flat[:n_diagonal].reshape(len(offsets), n_rows)),
            jnp.asarray(flat[n_diagonal : n_diagonal + n_padded].reshape(n_rows, width)),
            jnp.asarray(columns.reshape(n_rows, width)),
            jnp.asarray(flat[n_diagonal + n_padded :]),
            jnp.asarray(rows[off_diagonals][in_tail]),
            jnp.asarray(rest[in_tail].astype(np.int32)),
            jnp.asarray(slots),
            offsets,
            (int(n_rows), int(n_columns)),
        )


def _canonical(matrix: Any) -> Any:
    check_array("matrix", matrix)
    if matrix.ndim != 2:
        raise ValueError(f"`matrix` must have two axes, got shape {matrix.shape}.")
    csr: Any = scipy.sparse.csr_array(matrix)
    if not csr.has_canonical_format:
        csr = csr.copy()  # it may share its arrays with the caller's matrix
        csr.sum_duplicates()
    return csr if csr.dtype.isnative else csr.astype(csr.dtype.newbyteorder("="))


def _well_filled_diagonals(csr: Any, rows: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return the number of the stored diagonal of each entry (-1: none), and their offsets."""
    n_rows, n_columns = csr.shape
    first = n_rows - 1
    number = csr.indices.astype(np.int32) - rows + np.int32(first)
    counts = np.bincount(number, minlength=max(n_rows + n_columns - 1, 0))
    filled = np.flatnonzero(counts > _LEAST_FILL * n_rows)
    filled = np.sort(filled[np.argsort(-counts[filled], kind="stable")[:_MOST_DIAGONALS]])
    table = np.full(counts.size, -1, np.int32)
    table[filled] = np.arange(filled.size)
    return table[number], tuple(int(k) - first for k in filled)


def _padded_rows(rows: np.ndarray, n_rows: int) -> tuple[int, np.ndarray]:
    """Return the width that costs least with its tail, and each entry's place in its row."""
    lengths = np.bincount(rows, minlength=n_rows)
    longer = n_rows - np.cumsum(np.bincount(lengths)) if n_rows else np.zeros(1, int)
    # One more column costs a place in every row and takes one entry of each longer row.
    width = int(np.argmax(longer * _TAIL_COST <= n_rows))
    starts = np.concatenate([[0], np.cumsum(lengths)[:-1]]) if n_rows else np.zeros(0, int)
    return width, (np.arange(rows.size) - starts[rows]).astype(np.int32)
