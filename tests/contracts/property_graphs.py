"""Table of calls: points, graphs, segments, spectral bases and sparse matrices of numerics."""

from typing import Any

import numpy as np
import scipy.sparse
from hypothesis import strategies as st

from sciml import numerics

from .property_cases import add, close, numbers


def _of_farthest(found: Any, points: Any, n_samples: int) -> None:
    assert np.shape(found) == (n_samples,)
    assert ((np.asarray(found) >= 0) & (np.asarray(found) < len(points))).all()


@add("numerics.farthest_points", numerics.farthest_points, check=_of_farthest)
def _(draw: Any) -> dict:
    n = draw(st.sampled_from((1, 4, 6)))
    return {"points": numbers(draw, n, 2), "n_samples": draw(st.integers(1, n))}


def _of_neighbours(found: Any, points: Any, queries: Any, radius: float) -> None:
    p, q = np.asarray(points, float), np.asarray(queries, float)
    near = np.linalg.norm(q[:, None] - p[None], axis=-1)
    sure = abs(near - radius) > 1e-4
    table = np.zeros(near.shape, bool)
    for query, (index, mask) in enumerate(zip(found.index, found.mask, strict=True)):
        table[query, np.asarray(index)[np.asarray(mask)]] = True
    assert ((table == (near < radius)) | ~sure).all(), "other neighbours"


@add("numerics.radius_neighbours", numerics.radius_neighbours, check=_of_neighbours)
def _(draw: Any) -> dict:
    points = numbers(draw, draw(st.sampled_from((1, 5, 8))), 2)
    return {"points": points, "queries": numbers(draw, 3, 2, dtype=points.dtype), "radius": 1.2}


def _of_most(found: Any, frames: Any, radius: float) -> None:
    x = np.asarray(frames, float)
    near = np.linalg.norm(x[:, :, None] - x[:, None], axis=-1) < radius
    assert abs(int(found) - near.sum(-1).max()) <= 1


@add("numerics.most_neighbours", numerics.most_neighbours, check=_of_most)
def _(draw: Any) -> dict:
    return {"frames": numbers(draw, 2, 5, 2), "radius": 1.0}


def _of_lattice(found: Any, queries: Any, **_: Any) -> None:
    assert np.shape(found.index)[0] == np.shape(queries)[0]


@add("numerics.lattice_neighbours", numerics.lattice_neighbours, check=_of_lattice)
def _(draw: Any) -> dict:
    return {
        "queries": numbers(draw, draw(st.sampled_from((1, 4))), 2),
        "origin": (0.0, 0.0),
        "spacing": (0.5, 1.0),
        "shape": (4, 3),
        "radius": 1.1,
    }


def _of_segments(kind: str) -> Any:
    def check(
        found: Any, values: Any = None, segments: Any = None, n_segments: int = 0, **other: Any
    ) -> None:
        values = np.asarray(values if values is not None else other["logits"], float)
        segments = np.asarray(segments)
        assert ((segments >= 0) & (segments < n_segments)).all(), "indices out of range were taken"
        total = np.zeros((n_segments, *values.shape[1:]))
        if kind == "softmax":
            np.add.at(total, segments, np.asarray(found, float))
            count = np.bincount(segments, minlength=n_segments) > 0
            close(total, np.broadcast_to(count[:, None], total.shape).astype(float), rtol=1e-4)
            return
        np.add.at(total, segments, values)
        if kind == "mean":
            total /= np.maximum(np.bincount(segments, minlength=n_segments), 1)[:, None]
        close(found, total, rtol=1e-4)

    return check


for _kind in ("sum", "mean", "softmax"):
    _first = "logits" if _kind == "softmax" else "values"
    add(
        f"numerics.segment_{_kind}",
        getattr(numerics, f"segment_{_kind}"),
        check=_of_segments(_kind),
        follows=_first,
    )(
        lambda draw, first=_first: {
            first: numbers(draw, 6, 2),
            "segments": np.array(
                draw(st.lists(st.integers(0, 3), min_size=6, max_size=6)), np.int32
            ),
            "n_segments": 4,
        }
    )


def _graph(nodes: Any, edges: Any, senders: Any, receivers: Any) -> numerics.Graph:
    return numerics.Graph.from_arrays(nodes, edges, senders, receivers)


def _of_graph(found: Any, nodes: Any, edges: Any, senders: Any, receivers: Any) -> None:
    close(found.nodes, nodes)
    close(found.edges, edges)
    degree = np.bincount(np.asarray(receivers), minlength=len(nodes))
    close(np.asarray(found.in_degree(), float), degree)


def draw_graph(draw: Any) -> dict:
    """Draw nodes, edges and their ends."""
    n, m = draw(st.sampled_from((1, 3, 5))), draw(st.sampled_from((0, 1, 6)))
    nodes = numbers(draw, n, 2)
    ends = [
        np.array(draw(st.lists(st.integers(0, n - 1), min_size=m, max_size=m)), np.int32)
        for _ in range(2)
    ]
    return {
        "nodes": nodes,
        "edges": numbers(draw, m, 1, dtype=nodes.dtype),
        "senders": ends[0],
        "receivers": ends[1],
    }


add("numerics.Graph.from_arrays", _graph, check=_of_graph)(draw_graph)


def _of_bucket(found: Any, n: int) -> None:
    assert found >= n


add("numerics.bucket_size", numerics.bucket_size, check=_of_bucket)(
    lambda draw: {"n": draw(st.integers(1, 50))}
)


def _basis(kind: type, n_modes: Any, u: Any) -> Any:
    basis = kind(n_modes)
    z = basis.encode(u)
    return z, basis.decode(z, np.shape(u)[-len(basis.n_modes) :])


def _of_basis(found: Any, n_modes: Any, u: Any, **_: Any) -> None:
    z, back = (np.asarray(x, float) for x in found)
    u = np.asarray(u, float)
    assert back.shape == u.shape
    # An orthogonal projection: never longer, and Pythagoras holds.
    size = np.sum(u**2)
    close(np.sum((u - back) ** 2) + np.sum(back**2), size, rtol=1e-3)
    d = len(n_modes)
    close(np.sum(z**2) * np.prod(u.shape[-d:]), np.sum(back**2), rtol=1e-3)


for _kind in (numerics.CosineBasis, numerics.SineBasis, numerics.FourierBasis):
    add(
        f"numerics.{_kind.__name__}",
        lambda n_modes, u, kind=_kind: _basis(kind, n_modes, u),
        check=_of_basis,
        follows="u",
        words=("basis", "grid", "n_points"),
    )(
        lambda draw: {
            "n_modes": (draw(st.integers(1, 4)), draw(st.integers(1, 3))),
            "u": numbers(draw, 2, draw(st.sampled_from((7, 8))), draw(st.sampled_from((5, 6)))),
        }
    )


def _product(_diagonal: Any, _off: Any, x: Any) -> Any:
    dense = np.diag(_diagonal) + np.diag(_off, 1) + np.diag(_off, -1)
    matrix = scipy.sparse.csr_array(dense)
    return numerics.SparseMatrix.from_scipy(matrix).mv(x)


def _of_product(found: Any, _diagonal: Any, _off: Any, x: Any) -> None:
    matrix = np.diag(_diagonal) + np.diag(_off, 1) + np.diag(_off, -1)
    close(found, matrix @ np.asarray(x), rtol=1e-3)


@add("numerics.SparseMatrix", _product, check=_of_product, words=("matrix", "A", "diagonals"))
def _(draw: Any) -> dict:
    n = draw(st.sampled_from((2, 6)))
    diagonal = numbers(draw, n)
    return {
        "_diagonal": diagonal,
        "_off": numbers(draw, n - 1, dtype=diagonal.dtype),
        "x": numbers(draw, n, dtype=diagonal.dtype),
    }
