import numpy as np
import pytest

from sciml.data import DataFileError, load_tu_graphs

# A triangle with labels, a single node, and a pair with a double edge.
FILES = {
    "A": "1, 2\n2, 3\n3, 1\n5, 6\n5,6\n",
    "graph_indicator": "1\n1\n1\n2\n3\n3\n",
    "graph_labels": "-1\n1\n-1\n",
    "node_labels": "7\n7\n9\n7\n9\n9\n",
    "edge_attributes": "0.5, 1\n1, 1\n1.5, 1\n2, 1\n-2e-1, 1\n",
}


def _write(folder, **changes):
    for name, text in (FILES | changes).items():
        if text is not None:
            (folder / f"DS_{name}.txt").write_text(text)
    return folder


def test_three_graphs(tmp_path):
    found = load_tu_graphs(_write(tmp_path))
    assert found.labels.tolist() == [0, 1, 0]
    assert found.classes.tolist() == [-1, 1]
    triangle, single, pair = found.graphs
    np.testing.assert_array_equal(triangle.nodes, [[1, 0], [1, 0], [0, 1]])
    np.testing.assert_array_equal(triangle.senders, [0, 1, 2])
    np.testing.assert_array_equal(triangle.receivers, [1, 2, 0])
    assert single.nodes.shape == (1, 2)
    assert single.edges.shape == (0, 2)
    np.testing.assert_array_equal(pair.senders, [0, 0])
    np.testing.assert_allclose(pair.edges[:, 0], [2, -0.2])


def test_labels_and_attributes_stand_beside_each_other(tmp_path):
    _write(tmp_path, node_attributes="1\n2\n3\n4\n5\n6\n", edge_attributes=None)
    found = load_tu_graphs(tmp_path, name="DS")
    np.testing.assert_array_equal(found.graphs[2].nodes, [[0, 1, 5], [0, 1, 6]])
    np.testing.assert_array_equal(found.graphs[0].edges, np.ones((3, 1)))


def test_graphs_without_any_edge(tmp_path):
    _write(tmp_path, A="", edge_attributes=None)
    assert [len(g.edges) for g in load_tu_graphs(tmp_path).graphs] == [0, 0, 0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"A": "1, 2\n2, 9\n", "edge_attributes": None}, "A.txt: line 2: node 9 is not among 1"),
        ({"A": "0, 2\n", "edge_attributes": None}, "line 1: node 0 is not among 1 to 6"),
        ({"A": "1, 2\n3, 4\n", "edge_attributes": None}, "line 2: the edge joins nodes of two"),
        ({"A": "1; 2\n"}, "line 1 must have 2 entries separated by commas"),
        ({"A": "1, two\n"}, "line 1 must hold integers"),
        ({"graph_indicator": "1\n1\n2\n1\n3\n3\n"}, "line 4: the nodes of a graph must stand"),
        ({"graph_indicator": "1\n1\n1\n2\n3\n4\n"}, "line 6: graph 4 is not among 1 to 3"),
        ({"graph_labels": ""}, "graph_labels.txt: is empty"),
        ({"node_labels": "7\n7\n"}, "must have 6 lines, one for each node; it has 2"),
        ({"edge_attributes": "1\n1\nnan\n1\n1\n"}, "line 3 is not finite"),
        ({"A": f"1, {'9' * 30}\n"}, "line 1 is not finite or too large"),
        ({"node_labels": "9" * 30 + "\n7" * 5}, "line 1 is not finite or too large"),
        ({"edge_attributes": "1\n1, 2\n1\n1\n1\n"}, "line 2 must have 1 entries"),
    ],
)
def test_bad_lines_are_named(tmp_path, changes, message):
    with pytest.raises(DataFileError, match=message):
        load_tu_graphs(_write(tmp_path, **changes))


def test_numbers_are_no_labels(tmp_path, monkeypatch):
    """As many classes as nodes: a one-hot table of them would not fit into any memory."""
    monkeypatch.setattr("sciml.data._tu_graphs._MOST_LABEL_ENTRIES", 30)
    with pytest.raises(DataFileError, match=r"6 different labels for 6 lines.*node_attributes"):
        load_tu_graphs(_write(tmp_path, node_labels="1\n2\n3\n4\n5\n6\n"))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        load_tu_graphs(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="there is none"):
        load_tu_graphs(tmp_path)
    _write(tmp_path, graph_labels=None)
    with pytest.raises(FileNotFoundError, match="lacks"):
        load_tu_graphs(tmp_path)
    (tmp_path / "DS_graph_labels.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataFileError, match="is not a text file"):
        load_tu_graphs(tmp_path)
