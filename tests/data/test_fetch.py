"""Downloads from a server on this machine: checksum, reuse, wrong files, broken addresses."""

import functools
import hashlib
import http.server
import threading

import numpy as np
import pytest

from sciml.data import DataFileError, FieldDataset, fetch, load, save_dataset


@pytest.fixture
def server(tmp_path):
    """Serve a folder with one data file; yield its address and the list of requests."""
    folder = tmp_path / "served"
    folder.mkdir()
    values = np.random.default_rng(90).normal(size=(2, 3, 1, 4))
    data = FieldDataset.from_array(values, dt=1.0, domain_extent=1.0)
    path = save_dataset(folder / "ns.npz", data)
    requests = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            requests.append(self.path)

    handler = functools.partial(Quiet, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{running.server_port}"
        yield address, hashlib.sha256(path.read_bytes()).hexdigest(), requests
        running.shutdown()
        thread.join()


def test_download_once_and_load(server, tmp_path):
    address, sha256, requests = server
    options = {"folder": tmp_path / "cache", "progress": False}
    path = fetch(f"{address}/ns.npz", sha256.upper(), **options)
    assert path == tmp_path / "cache" / "ns.npz"
    assert load(path).n_samples == 2
    assert fetch(f"{address}/ns.npz", sha256, **options) == path
    assert len(requests) == 1
    named = fetch(f"{address}/ns.npz?x=1", sha256, file_name="mine.npz", **options)
    assert named.name == "mine.npz"


def test_wrong_files_leave_nothing(server, tmp_path):
    address, _, _ = server
    cache = tmp_path / "cache"
    options = {"folder": cache, "progress": False}
    with pytest.raises(DataFileError, match="not the expected file"):
        fetch(f"{address}/ns.npz", "0" * 64, **options)
    assert list(cache.iterdir()) == []
    (cache / "ns.npz").write_text("something else")
    with pytest.raises(DataFileError, match="is there, but its SHA-256 sum"):
        fetch(f"{address}/ns.npz", "0" * 64, **options)
    with pytest.raises(ConnectionError, match="404"):
        fetch(f"{address}/absent.npz", "0" * 64, **options)


@pytest.mark.parametrize(
    ("url", "sha256", "message"),
    [
        ("http://127.0.0.1/ns.npz", "abc", "64 hexadecimal digits"),
        ("file:///etc/ns.npz", "0" * 64, "must begin with http"),
        ("http://127.0.0.1/", "0" * 64, "pass `file_name`"),
    ],
)
def test_bad_arguments_are_named(url, sha256, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        fetch(url, sha256, folder=tmp_path)


def test_file_names_stay_in_the_folder(tmp_path):
    with pytest.raises(ValueError, match="a plain name"):
        fetch("http://127.0.0.1/a", "0" * 64, file_name="../a", folder=tmp_path)
