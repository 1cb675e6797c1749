"""The four PDEBench layouts, on arrays whose axes all differ, and what can be wrong in them."""

import h5py
import numpy as np
import pytest

from sciml.data import DataFileError, load

N, T, X, Y, Z = 3, 5, 4, 6, 7
RNG = np.random.default_rng(1618)


def normal(*shape):
    return RNG.normal(size=shape).astype(np.float32)


def centres(n, length=1.0):
    return ((np.arange(n) + 0.5) * (length / n)).astype(np.float32)


def write(path, content):
    with h5py.File(path, "w") as file:
        for key, value in content.items():
            file[key] = value
    return path


def scalar(**changes):
    content = {
        "tensor": normal(N, T, X),
        "x-coordinate": centres(X, 2.0),
        "t-coordinate": 0.5 * np.arange(T + 1, dtype=np.float32),
    }
    return {k: v for k, v in (content | changes).items() if v is not None}


def compressible(**changes):
    content = {key: normal(N, T, X, Y) for key in ("density", "pressure", "Vx", "Vy")}
    content |= {
        "x-coordinate": centres(X),
        "y-coordinate": centres(Y, 3.0),
        "t-coordinate": 0.1 * np.arange(T + 1, dtype=np.float32),
    }
    return {k: v for k, v in (content | changes).items() if v is not None}


def seeds(**changes):
    content = {}
    for i in range(N):
        content[f"{i:04d}/data"] = normal(T, X, Y, 2)
        content[f"{i:04d}/grid/t"] = 0.25 * np.arange(T, dtype=np.float32)
        content[f"{i:04d}/grid/x"] = centres(X) - 0.5
        content[f"{i:04d}/grid/y"] = centres(Y, 5.0)
    return {k: v for k, v in (content | changes).items() if v is not None}


def incompressible(**changes):
    content = {
        "velocity": normal(N, T, X, Y, 2),
        "particles": normal(N, T, X, Y, 1),
        "force": normal(N, X, Y, 2),
        "t": np.tile(0.05 * np.arange(T, dtype=np.float32), (N, 1)),
    }
    return {k: v for k, v in (content | changes).items() if v is not None}


def test_scalar_layout(tmp_path):
    content = scalar()
    data = load(write(tmp_path / "advection.hdf5", content))
    np.testing.assert_array_equal(data.values[:, :, 0], content["tensor"])
    assert data.domain_extent == pytest.approx((2.0,))
    assert data.dt == pytest.approx(0.5)
    assert data.periodic == (True,)
    assert data.channels == ("tensor",)


def test_darcy_flow_has_a_coefficient_and_no_time(tmp_path):
    content = {
        "tensor": normal(N, 1, X, Y),
        "nu": normal(N, X, Y),
        "x-coordinate": centres(X),
        "y-coordinate": centres(Y),
    }
    data = load(write(tmp_path / "darcy.hdf5", content), samples=slice(1, None))
    assert data.values.shape == (2, 1, 1, X, Y)
    np.testing.assert_array_equal(data.context[:, 0], content["nu"][1:])
    assert data.context_names == ("nu",)
    assert data.periodic == (False, False)


def test_an_axis_of_one_point_has_the_extent_that_is_passed(tmp_path):
    content = {
        "tensor": normal(N, 1, X, 1),
        "nu": normal(N, X, 1),
        "x-coordinate": centres(X),
        "y-coordinate": np.zeros(1, np.float32),
    }
    path = write(tmp_path / "line.hdf5", content)
    with pytest.raises(DataFileError, match="axis 1 has one point, which has no spacing"):
        load(path)
    assert load(path, domain_extent=(1.0, 3.0)).domain_extent == pytest.approx((1.0, 3.0))


def test_compressible_layout(tmp_path):
    content = compressible()
    data = load(write(tmp_path / "cfd.hdf5", content), periodic=True)
    assert data.channels == ("density", "pressure", "Vx", "Vy")
    np.testing.assert_array_equal(data.values[:, :, 3], content["Vy"])
    assert data.domain_extent == pytest.approx((1.0, 3.0))
    assert data.periodic == (True, True)
    assert load(tmp_path / "cfd.hdf5").periodic == (False, False)


def test_compressible_layout_in_three_dimensions(tmp_path):
    keys = ("density", "pressure", "Vx", "Vy", "Vz")
    content = {key: normal(2, T, X, Y, Z) for key in keys}
    content |= {f"{a}-coordinate": centres(n) for a, n in zip("xyz", (X, Y, Z), strict=True)}
    content["t-coordinate"] = 0.1 * np.arange(T, dtype=np.float32)
    data = load(write(tmp_path / "cfd.hdf5", content))
    assert data.values.shape == (2, T, 5, X, Y, Z)
    np.testing.assert_array_equal(data.values[:, :, 4], content["Vz"])


def test_seed_layout(tmp_path):
    content = seeds()
    data = load(write(tmp_path / "swe.h5", content))
    assert data.values.shape == (N, T, 2, X, Y)
    np.testing.assert_array_equal(data.values[2, 1, 1], content["0002/data"][1, :, :, 1])
    assert data.domain_extent == pytest.approx((1.0, 5.0))
    assert load(tmp_path / "swe.h5", samples=slice(0, 2)).n_samples == 2


def test_incompressible_layout(tmp_path):
    content = incompressible()
    path = write(tmp_path / "ns_incom.h5", content)
    data = load(path, domain_extent=1.0)
    assert data.channels == ("velocity_x", "velocity_y", "particles")
    np.testing.assert_array_equal(data.values[:, :, 1], content["velocity"][..., 1])
    np.testing.assert_array_equal(data.values[:, :, 2], content["particles"][..., 0])
    np.testing.assert_array_equal(data.context[:, 1], content["force"][..., 1])
    assert data.dt == pytest.approx(0.05)
    with pytest.raises(DataFileError, match=r"pass `domain_extent=\.\.\.`"):
        load(path)


def nan_in(array, index):
    array = array.copy()
    array[index] = np.nan
    return array


BAD = {
    "axes swapped": (
        scalar(**{"x-coordinate": centres(T), "t-coordinate": np.arange(X, dtype=np.float32)}),
        "key 'x-coordinate': 5 entries for axis 3 .* Axis 1 has that size",
    ),
    "too few axes": (scalar(tensor=normal(N, T)), r"key 'tensor': expected \(sample, time, x"),
    "NaN": (scalar(tensor=nan_in(normal(N, T, X), (1, 2, 3))), "sample 1, time 2, x 3"),
    "half precision": (scalar(tensor=np.ones((N, T, X), np.float16)), "got dtype float16"),
    "empty": (scalar(tensor=np.ones((0, T, X), np.float32)), "key 'tensor': the array is empty"),
    "falling x": (scalar(**{"x-coordinate": centres(X)[::-1]}), "coordinates must ascend"),
    "stretched x": (scalar(**{"x-coordinate": centres(X) ** 2}), "coordinates must be uniform"),
    "no x": (scalar(**{"x-coordinate": None}), "pass `domain_extent=...`"),
    "no t": (scalar(**{"t-coordinate": None}), "pass `dt=...`"),
    "two-axis x": (scalar(**{"x-coordinate": normal(X, 2)}), "expected one axis of points"),
    "missing Vy": (compressible(Vy=None), "key 'Vy': the key is missing"),
    "unequal fields": (compressible(Vy=normal(N, T, X, Y + 1)), "key 'Vy': shape"),
    "seed without grid": (
        {k: v for k, v in seeds().items() if not k.startswith("0001/grid")},
        "key '0001/grid': the key is missing",
    ),
    "seed on another grid": (
        seeds(**{"0002/grid/x": centres(X)}),
        "key '0002/grid/x': the grid differs",
    ),
    "seed of another length": (seeds(**{"0001/data": normal(T + 1, X, Y, 2)}), "'0001/data'"),
    "flat seed": (seeds(**{"0000/data": normal(T, X)}), r"'0000/data': expected \(time, x"),
    "three components": (incompressible(velocity=normal(N, T, X, Y, 3)), "expected 2 components"),
    "particles of another time": (
        incompressible(particles=normal(N, T + 1, X, Y, 1)),
        "key 'particles'",
    ),
    "own times": (incompressible(t=normal(N, T)), "must share their times"),
    "own times in a small unit": (
        incompressible(t=1e-9 * np.outer(np.arange(1, N + 1), np.arange(T))),
        "must share their times",
    ),
    "missing t": (incompressible(t=None), "key 't': the key is missing"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_content_names_file_and_key(tmp_path, case):
    content, message = BAD[case]
    path = write(tmp_path / "bad.h5", content)
    with pytest.raises(DataFileError, match=r"bad\.h5.*" + message):
        load(path)


def test_options_that_contradict_the_file(tmp_path):
    path = write(tmp_path / "advection.hdf5", scalar())
    with pytest.raises(DataFileError, match="the stored coordinates span"):
        load(path, domain_extent=1.0)
    assert load(path, domain_extent=2.0).domain_extent == pytest.approx((2.0,))
    with pytest.raises(DataFileError, match="`prepend_initial` does not apply to PDEBench"):
        load(path, prepend_initial=True)
    with pytest.raises(DataFileError, match="leaves none of the 3 groups"):
        load(write(tmp_path / "swe.h5", seeds()), samples=slice(9, None))
