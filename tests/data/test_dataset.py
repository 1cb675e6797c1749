"""FieldDataset: validation by name, axis order, views of samples, times and grids."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.data import DatasetSplits, FieldDataset


def make(n_samples=4, n_times=7, n_points=(6, 5), dtype=np.float32, **changes):
    rng = np.random.default_rng(913)
    fields = {
        "values": rng.normal(size=(n_samples, n_times, 2, *n_points)).astype(dtype),
        "channels": ("u", "v"),
        "axes": ("x", "y"),
        "domain_extent": (1.0, 2.5),
        "dt": 0.25,
        "start_time": 3.0,
        "context": rng.normal(size=(n_samples, 1, *n_points)).astype(dtype),
        "context_names": ("forcing",),
        "attributes": {"viscosity": 1e-3, "origin": "test"},
    }
    return FieldDataset(**(fields | changes))


def test_sizes_times_and_coordinates():
    data = make()
    assert (len(data), data.n_times, data.n_channels, data.n_points) == (4, 7, 2, (6, 5))
    np.testing.assert_allclose(data.times, 3.0 + 0.25 * np.arange(7))
    np.testing.assert_allclose(data.coordinates[1], [0, 0.5, 1.0, 1.5, 2.0])
    assert data.periodic == (True, True)
    assert "forcing" in data.describe()
    assert "viscosity: 0.001" in data.describe()
    assert "4 samples" in repr(data)


def test_arrays_are_read_only_but_the_users_own_stays_writeable():
    mine = np.ones((1, 2, 1, 4), np.float32)
    data = FieldDataset.from_array(mine, dt=1.0, domain_extent=1.0)
    with pytest.raises(ValueError, match="read-only"):
        data.values[0] = 0
    mine[0] = 0


def nan_at(index):
    values = make().values.copy()
    values[index] = np.nan
    return values


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"values": np.ones((4, 7, 2, 6, 5), int)}, TypeError, "real floating-point, got dtype"),
        ({"values": np.ones((4, 7, 2, 6, 5), complex)}, TypeError, "two channels"),
        ({"values": np.ones((4, 7, 2, 6, 5), np.float16)}, TypeError, "float32 or float64"),
        ({"values": np.ones((4, 7, 2, 6), np.float32)}, ValueError, "must have 5 axes"),
        ({"values": np.ones((4, 0, 2, 6, 5), np.float32)}, ValueError, r"axis 1 \(time\).* empty"),
        ({"values": nan_at((2, 3, 1, 0, 4))}, ValueError, "sample 2, time 3, channel 1, x 0, y 4"),
        ({"channels": ("u",)}, ValueError, r"axis 2 \(channel\) of `values` has size 2"),
        ({"channels": ("u", "u")}, ValueError, "different names"),
        ({"channels": "uv"}, TypeError, "the string 'uv'"),
        ({"axes": ("x", "y", "z")}, ValueError, "must have 6 axes"),
        ({"domain_extent": (1.0,)}, ValueError, "one length for each of the axes"),
        ({"domain_extent": (1.0, -2.0)}, ValueError, r"`domain_extent\[y\]` must be positive"),
        ({"dt": 0.0}, ValueError, "`dt` must be positive"),
        ({"dt": float("nan")}, ValueError, "`dt` must be positive"),
        ({"start_time": float("inf")}, ValueError, "`start_time` must be finite"),
        ({"periodic": (True,)}, ValueError, "2 booleans, one of each axis"),
        ({"context": None}, ValueError, "without `context`"),
        ({"context": np.ones((3, 1, 6, 5), np.float32)}, ValueError, "size 1 or 4"),
        ({"context": np.ones((4, 1, 5, 6), np.float32)}, ValueError, r"grid \(5, 6\)"),
        ({"context": np.ones((4, 2, 6, 5), np.float32)}, ValueError, "has 1 names"),
        ({"attributes": {"a": [1]}}, TypeError, "strings, numbers or booleans"),
        ({"attributes": {"a": float("nan")}}, ValueError, "attribute 'a' must be finite"),
    ],
)
def test_bad_fields_are_named(changes, error, message):
    with pytest.raises(error, match=message):
        make(**changes)


def test_masked_entries_are_not_taken_for_values():
    masked = np.ma.masked_greater(np.arange(12.0).reshape(2, 3, 1, 2), 8)
    with pytest.raises(TypeError, match="masked array with 3 masked entries"):
        FieldDataset.from_array(masked, dt=0.5, domain_extent=1.0)
    full = FieldDataset.from_array(np.ma.array(masked.data), dt=0.5, domain_extent=1.0)
    np.testing.assert_array_equal(full.values, masked.data)


def test_from_array_reorders_axes():
    u = np.random.default_rng(77).normal(size=(3, 6, 5, 8))
    data = FieldDataset.from_array(
        u, dt=0.5, domain_extent=2.0, axis_order="sample x y time", channels=("w",)
    )
    assert data.values.shape == (3, 8, 1, 6, 5)
    assert data.values.dtype == np.float64
    assert data.values[2, 7, 0, 4, 1] == u[2, 4, 1, 7]
    assert data.domain_extent == (2.0, 2.0)
    single = FieldDataset.from_array(u[0, 0], dt=0.5, domain_extent=2.0, axis_order="s, time")
    assert single.values.shape == (1, 8, 1, 5)
    assert single.axes == ("s",)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (None, 'axis_order="sample x y time"'),
        ("sample x time", "names 3 axes, but `values` has 4"),
        ("sample x x time", "names an axis twice"),
        ("samples x y time", "write 'sample'"),
        ("sample x y z", "no 'time'"),
        ("sample time channel times", "write 'time'"),
    ],
)
def test_from_array_explains_axis_order(order, message):
    u = np.zeros((3, 6, 5, 8))
    if order is None:
        u = u[0]
    with pytest.raises(ValueError, match=message):
        FieldDataset.from_array(u, dt=1.0, domain_extent=1.0, axis_order=order)


def test_select_times_stride_and_split():
    data = make()
    part = data.select([3, 1])
    np.testing.assert_array_equal(part.values, data.values[[3, 1]])
    np.testing.assert_array_equal(part.context, data.context[[3, 1]])
    assert data.select(2).n_samples == 1
    late = data.slice_times(1, 6, 2)
    assert (late.n_times, late.start_time, late.dt) == (3, 3.25, 0.5)
    np.testing.assert_array_equal(late.values, data.values[:, 1:6:2])
    coarse = make(n_points=(6, 4)).stride(2)
    assert coarse.n_points == (3, 2)
    assert coarse.domain_extent == (1.0, 2.5)
    splits = data.split(n_validation=1, n_test=1)
    np.testing.assert_array_equal(splits.test.values[0], data.values[3])
    assert [name for name, _ in splits.items()] == ["train", "validation", "test"]
    assert data.split().test is None
    assert "[test]" in splits.describe()
    assert splits.astype(np.float64).train.values.dtype == np.float64


def test_empty_selections_are_errors():
    data = make()
    with pytest.raises(ValueError, match="none of the 4 samples"):
        data.select(slice(4, None))
    with pytest.raises(IndexError):
        data.select([9])
    with pytest.raises(ValueError, match="none of the 7 snapshots"):
        data.slice_times(7)
    with pytest.raises(ValueError, match="leave nothing to train on"):
        data.split(n_validation=2, n_test=2)
    with pytest.raises(ValueError, match="4 does not divide 6"):
        data.stride(4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_resample_is_the_fourier_interpolant(dtype):
    x = np.arange(10)[:, None] / 10
    y = np.arange(7)[None, :] / 7

    def field(x, y):
        return np.cos(2 * np.pi * (3 * x - 2 * y)) + np.sin(2 * np.pi * y)

    data = FieldDataset.from_array(
        field(x, y)[None, None, None].astype(dtype),
        dt=1.0,
        domain_extent=1.0,
        context=field(y.T, x.T)[..., :7][None, None][:, :, :1].repeat(10, 2).astype(dtype),
    )
    fine = data.resample((16, 15))
    assert fine.values.dtype == dtype
    assert fine.context.shape == (1, 1, 16, 15)
    x, y = np.arange(16)[:, None] / 16, np.arange(15)[None, :] / 15
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    np.testing.assert_allclose(fine.values[0, 0, 0], field(x, y), atol=tolerance)
    assert data.resample((10, 7)) is data


def test_resample_refuses_walls_and_wrong_counts():
    with pytest.raises(ValueError, match="axis 'y' is not periodic"):
        make(periodic=(True, False)).resample(8)
    with pytest.raises(ValueError, match="one for each of the axes"):
        make().resample((8, 8, 8))
    splits = DatasetSplits(train=make(), test=make())
    assert splits.resample(4).test.n_points == (4, 4)


@settings(deadline=None, max_examples=15)
@given(order=st.permutations(["sample", "time", "channel", "x", "y"]))
def test_any_axis_order_gives_the_same_dataset(order):
    canonical = make()
    names = ("sample", "time", "channel", "x", "y")
    u = canonical.values.transpose([names.index(name) for name in order])
    data = FieldDataset.from_array(u, dt=0.25, domain_extent=1.0, axis_order=" ".join(order))
    # The order in which the space axes stand is theirs.
    expected = canonical.values if data.axes == ("x", "y") else canonical.values.swapaxes(3, 4)
    np.testing.assert_array_equal(data.values, expected)


def test_replace_checks_again():
    data = make()
    assert dataclasses.is_dataclass(data)
    with pytest.raises(ValueError, match="`dt` must be positive"):
        data.replace(dt=-1.0)


def test_negative_times_count_from_the_end_and_one_number_of_points_holds_for_all_axes():
    data = FieldDataset.from_array(np.zeros((2, 9, 1, 8, 8)), dt=0.5, domain_extent=1.0)
    assert data.slice_times(-4).n_times == 4
    assert data.resample(4).n_points == data.resample([4, 4]).n_points == (4, 4)
