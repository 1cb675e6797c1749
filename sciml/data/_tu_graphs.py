"""Reader of the plain-text TU format of graph classification (MUTAG, PROTEINS, ...).

A set named ``DS`` is a folder of ``DS_A.txt`` (one edge ``i, j`` a line, nodes counted from 1),
``DS_graph_indicator.txt`` (the graph of each node), ``DS_graph_labels.txt``, and perhaps
``DS_node_labels.txt``, ``DS_node_attributes.txt``, ``DS_edge_labels.txt``,
``DS_edge_attributes.txt``.
"""

import dataclasses
from pathlib import Path

import numpy as np

from ..core import PathLike
from ..numerics import Graph
from ._file_errors import file_error

# One column for each label and one row for each node, of 4 bytes each.
_MOST_LABEL_ENTRIES = 5 * 10**8


@dataclasses.dataclass(frozen=True)
class GraphDataset:
    """Graphs with a class each.

    Parameters
    ----------
    graphs
        Nodes carry one-hot labels and then attributes, edges likewise; ``[1]`` where the files
        have neither.
    labels
        From 0 to the number of classes minus 1, shape ``(n_graphs,)``.
    classes
        What the file called them.
    """

    graphs: list[Graph]
    labels: np.ndarray
    classes: np.ndarray


def load_tu_graphs(folder: PathLike, *, name: str | None = None) -> GraphDataset:
    r"""Read a set of graphs in the TU format.

    Parameters
    ----------
    folder
        Where the files are.
    name
        What precedes ``_A.txt``; needed if the folder holds several sets.

    Returns
    -------
    GraphDataset
        The graphs, in the order of the files, and their classes.

    Raises
    ------
    FileNotFoundError
        If the folder, or one of the three files that must be there, is missing.
    DataFileError
        If a line is not what it should be; the message names file and line.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = pathlib.Path(tempfile.mkdtemp())
    >>> _ = (folder / "DS_A.txt").write_text("1, 2\n2, 1\n")
    >>> _ = (folder / "DS_graph_indicator.txt").write_text("1\n1\n2\n")
    >>> _ = (folder / "DS_graph_labels.txt").write_text("-1\n1\n")
    >>> found = load_tu_graphs(folder)
    >>> [g.nodes.shape for g in found.graphs], found.labels, found.classes
    ([(2, 1), (1, 1)], array([0, 1]), array([-1,  1]))
    """
    stem = _stem(Path(folder), name)
    path_a, path_of, path_y = (
        stem.with_name(f"{stem.name}_{part}.txt")
        for part in ("A", "graph_indicator", "graph_labels")
    )
    ends = _integers(path_a, 2, may_be_empty=True) - 1
    owner = _integers(path_of, 1)[:, 0] - 1
    raw = _integers(path_y, 1)[:, 0]
    n, n_graphs = len(owner), len(raw)
    _check_range(path_of, owner, n_graphs, "graph")
    if (np.diff(owner) < 0).any():
        line = int(np.argmax(np.diff(owner) < 0)) + 2
        raise file_error(path_of, f"line {line}: the nodes of a graph must stand together.")
    _check_range(path_a, ends, n, "node")
    graph_of_edge = owner[ends[:, 0]]
    crossing = graph_of_edge != owner[ends[:, 1]]
    if crossing.any():
        line = int(np.argmax(crossing)) + 1
        raise file_error(path_a, f"line {line}: the edge joins nodes of two graphs.")
    nodes = _features(stem, "node", n)
    edges = _features(stem, "edge", len(ends))
    order = np.argsort(graph_of_edge, kind="stable")
    first = np.searchsorted(owner, np.arange(n_graphs + 1))
    cut = np.searchsorted(graph_of_edge[order], np.arange(n_graphs + 1))
    graphs = []
    for k in range(n_graphs):
        mine = order[cut[k] : cut[k + 1]]
        local = ends[mine] - first[k]
        graphs.append(
            Graph.from_arrays(nodes[first[k] : first[k + 1]], edges[mine], local[:, 0], local[:, 1])
        )
    classes, labels = np.unique(raw, return_inverse=True)
    return GraphDataset(graphs, labels, classes)


def _stem(folder: Path, name: str | None) -> Path:
    if not folder.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder)!r}.")
    if name is None:
        found = sorted(p.name[: -len("_A.txt")] for p in folder.glob("*_A.txt"))
        if len(found) != 1:
            listed = ", ".join(found) or "none"
            raise FileNotFoundError(
                f"{str(folder)!r} must hold one file '<name>_A.txt', and there is {listed}. Pass "
                "`name`."
            )
        name = found[0]
    stem = folder / name
    for part in ("A", "graph_indicator", "graph_labels"):
        path = stem.with_name(f"{name}_{part}.txt")
        if not path.is_file():
            raise FileNotFoundError(f"the set {name!r} lacks {str(path)!r}.")
    return stem


def _table(
    path: Path, kind: type, columns: int | None, *, may_be_empty: bool = False
) -> np.ndarray:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise file_error(path, "is not a text file.") from None
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        words = line.split(",")
        if columns is None:
            columns = len(words)
        if len(words) != columns:
            raise file_error(
                path,
                f"line {number} must have {columns} entries separated by commas: {line[:200]!r}.",
            )
        try:
            row = [kind(word) for word in words]
        except ValueError:
            what = "integers" if kind is int else "numbers"
            raise file_error(path, f"line {number} must hold {what}: {line[:200]!r}.") from None
        # Compared, since an integer may be too large for NumPy.
        largest = np.iinfo(np.int64).max if kind is int else np.finfo(np.float32).max
        if not all(abs(entry) <= largest for entry in row):
            raise file_error(path, f"line {number} is not finite or too large: {line[:200]!r}.")
        rows.append(row)
    if not rows and not may_be_empty:
        raise file_error(path, "is empty.")
    return np.asarray(rows, np.int64 if kind is int else np.float64).reshape(
        len(rows), columns or 0
    )


def _integers(path: Path, columns: int | None, *, may_be_empty: bool = False) -> np.ndarray:
    return _table(path, int, columns, may_be_empty=may_be_empty)


def _check_range(path: Path, index: np.ndarray, size: int, what: str) -> None:
    bad = (index < 0) | (index >= size)
    if bad.any():
        line = int(np.argmax(bad.reshape(len(index), -1).any(axis=1)))
        worst = int(index.reshape(-1)[np.argmax(bad)]) + 1
        raise file_error(path, f"line {line + 1}: {what} {worst} is not among 1 to {size}.")


def _features(stem: Path, of: str, n: int) -> np.ndarray:
    """Return one-hot labels and attributes of nodes or edges, or a column of ones."""
    parts = []
    for kind, part in ((int, "labels"), (float, "attributes")):
        path = stem.with_name(f"{stem.name}_{of}_{part}.txt")
        if not path.is_file():
            continue
        table = _table(path, kind, None, may_be_empty=n == 0)
        if len(table) != n:
            raise file_error(path, f"must have {n} lines, one for each {of}; it has {len(table)}.")
        if kind is int:
            kinds = [np.unique(column) for column in table.T]
            if sum(map(len, kinds)) * n > _MOST_LABEL_ENTRIES:
                raise file_error(
                    path,
                    f"{sum(map(len, kinds))} different labels for {n} lines: these are no classes, "
                    f"but numbers, which belong into {stem.name}_{of}_attributes.txt.",
                )
            columns = [c[:, None] == k for c, k in zip(table.T, kinds, strict=True)]
            table = np.concatenate(columns, axis=1) if columns else np.zeros((n, 0))
        parts.append(table.astype(np.float32))
    return np.concatenate(parts, axis=1) if parts else np.ones((n, 1), np.float32)
