"""FNO .mat files, v5 and v7.3: axis order on arrays whose axes all differ, and bad files."""

import zlib

import h5py
import numpy as np
import pytest
import scipy.io

from sciml.data import DataFileError, load

N, X, Y, T = 3, 4, 5, 6


def arrays(dtype=np.float32):
    rng = np.random.default_rng(2718)
    u = rng.normal(size=(N, X, Y, T)).astype(dtype)
    a = rng.normal(size=(N, X, Y)).astype(dtype)
    return {"u": u, "a": a, "t": np.arange(1.0, T + 1)[None].astype(dtype)}


def write_v5(path, content):
    scipy.io.savemat(path, content)
    return path


def write_v73(path, content, *, truncate=False):
    """As MATLAB does it: a 512-byte user block, HDF5 after it, all axes reversed."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for key, value in content.items():
            file.create_dataset(key, data=np.asarray(value).T)
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124))
        if truncate:
            file.truncate(path.stat().st_size // 2)
    return path


WRITERS = {"v5": write_v5, "v73": write_v73}


@pytest.mark.parametrize("flavour", ["v5", "v73"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_axes_times_and_dtype(tmp_path, flavour, dtype):
    content = arrays(dtype)
    data = load(WRITERS[flavour](tmp_path / "ns.mat", content))
    assert data.values.shape == (N, T, 1, X, Y)
    assert data.values.dtype == dtype
    np.testing.assert_array_equal(data.values[:, :, 0], content["u"].transpose(0, 3, 1, 2))
    np.testing.assert_allclose(data.times, np.arange(1, T + 1))
    assert data.channels == ("vorticity",)
    assert data.domain_extent == (1.0, 1.0)
    assert data.attributes["source"] == "ns.mat"


@pytest.mark.parametrize("flavour", ["v5", "v73"])
def test_initial_field_and_sample_slices(tmp_path, flavour):
    content = arrays()
    path = WRITERS[flavour](tmp_path / "ns.mat", content)
    data = load(path, samples=slice(1, 3), prepend_initial=True, domain_extent=2.0)
    assert data.values.shape == (2, T + 1, 1, X, Y)
    np.testing.assert_array_equal(data.values[:, 0, 0], content["a"][1:])
    np.testing.assert_array_equal(data.values[:, -1, 0], content["u"][1:, ..., -1])
    assert data.start_time == 0.0
    assert data.domain_extent == (2.0, 2.0)


def test_without_times_dt_must_be_given(tmp_path):
    content = arrays()
    del content["t"], content["a"]
    path = write_v5(tmp_path / "ns.mat", content)
    with pytest.raises(DataFileError, match=r"ns\.mat, key 't': .* pass `dt=...`"):
        load(path)
    assert load(path, dt=0.5).dt == 0.5
    with pytest.raises(DataFileError, match=r"key 'a': `prepend_initial` needs"):
        load(path, dt=0.5, prepend_initial=True)


def changed(**changes):
    return {k: v for k, v in (arrays() | changes).items() if v is not None}


def with_nan():
    u = arrays()["u"]
    u[2, 1, 3, 4] = np.nan
    return u


BAD = {
    "missing u": (changed(u=None), "key 'u': the key is missing"),
    "map without time": (changed(u=arrays()["a"][:, 0], a=None), "map between fields"),
    "time first": (
        changed(u=arrays()["u"].transpose(0, 3, 1, 2), a=None),
        r"key 't': 6 times .* Axis 1 has that size: is it the time axis\?",
    ),
    "a does not fit": (changed(a=arrays()["a"].swapaxes(1, 2)), r"key 'a': .*\(3, 4, 5\)"),
    "NaN": (changed(u=with_nan()), "key 'u': .* sample 2, x 1, y 3, time 4"),
    "complex": (changed(u=arrays()["u"] * 1j), "key 'u': the array is complex"),
    "integer": (changed(u=np.ones((N, X, Y, T), np.int32)), "key 'u': expected float32"),
    "unsorted times": (changed(t=np.array([1.0, 3, 2, 4, 5, 6])), "entry 2 is 2 after 3"),
    "non-uniform times": (changed(t=np.array([1.0, 2, 3, 4, 5, 7])), "times must be uniform"),
    "NaN times": (changed(t=np.array([1.0, 2, np.nan, 4, 5, 6])), "times must be finite"),
}


@pytest.mark.parametrize("flavour", ["v5", "v73"])
@pytest.mark.parametrize("case", BAD)
def test_bad_content_names_file_and_key(tmp_path, flavour, case):
    content, message = BAD[case]
    path = WRITERS[flavour](tmp_path / "ns.mat", content)
    with pytest.raises(DataFileError, match=r"(?s)ns\.mat.*" + message.removeprefix(".*")):
        load(path)


def test_matlab_complex_pairs_are_recognised(tmp_path):
    path = write_v73(tmp_path / "ns.mat", {})
    pairs = np.zeros((T, Y, X, N), dtype=[("real", "f4"), ("imag", "f4")])
    with h5py.File(path, "r+") as file:
        file["u"] = pairs
    with pytest.raises(DataFileError, match="key 'u': the array is complex"):
        load(path)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.97])
def test_truncated_v5(tmp_path, keep):
    path = write_v5(tmp_path / "ns.mat", arrays())
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(DataFileError, match=r"ns\.mat"):
        load(path)


def test_truncated_v73(tmp_path):
    path = write_v73(tmp_path / "ns.mat", arrays(), truncate=True)
    with pytest.raises(DataFileError, match="damaged or incomplete"):
        load(path)


def test_contradictions_are_named(tmp_path):
    path = write_v5(tmp_path / "ns.mat", arrays())
    with pytest.raises(
        DataFileError, match=r"`dt=0\.5` was passed, but the stored times step by 1"
    ):
        load(path, dt=0.5)
    with pytest.raises(DataFileError, match="`domain_extent` has 3 lengths"):
        load(path, domain_extent=(1.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="`dt` must be positive"):
        load(path, dt=-1.0)
    late = write_v5(tmp_path / "late.mat", changed(t=np.arange(5.0, 5 + T)))
    with pytest.raises(DataFileError, match="the times would not be uniform"):
        load(late, prepend_initial=True)


@pytest.mark.parametrize("compressed", [False, True])
def test_a_kind_of_storage_that_crashes_scipy(tmp_path, compressed):
    path = tmp_path / "d.mat"
    scipy.io.savemat(path, {"u": np.ones((2, 4, 4, 3), np.float32)}, do_compression=compressed)
    content = bytearray(path.read_bytes())
    start = 128 + 8
    body = zlib.decompress(content[start:]) if compressed else content[start - 8 :]
    body = bytearray(body)
    at = body.find(b"\x07\x00\x00\x00", 50)  # single precision
    body[at] = 63
    if compressed:
        packed = zlib.compress(body)
        content[132:] = len(packed).to_bytes(4, "little") + packed
    else:
        content[start - 8 :] = body
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"d\.mat: .*stored as kind 63"):
        load(path)
