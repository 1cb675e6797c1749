"""Normalisers: two-pass float64 figures, round trip, dtype, constant channels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sciml.data import FieldDataset, GaussianNormaliser, IdentityNormaliser


def dataset(offset=0.0, dtype=np.float32, n_space=2):
    rng = np.random.default_rng(4711)
    values = rng.normal(size=(5, 6, 2, *(7, 4, 3)[:n_space])) * np.array([1.0, 30.0]).reshape(
        2, *(1,) * n_space
    )
    return FieldDataset.from_array((values + offset).astype(dtype), dt=1.0, domain_extent=1.0)


@pytest.mark.parametrize("n_space", [1, 2, 3])
def test_encoded_data_have_mean_zero_and_variance_one(n_space):
    data = dataset(offset=3.0, n_space=n_space)
    normaliser = GaussianNormaliser.fit(data)
    encoded = np.asarray(jax.vmap(normaliser.encode)(jnp.asarray(data.values)))
    axes = (0, 1, *range(3, 3 + n_space))
    np.testing.assert_allclose(encoded.mean(axes), 0.0, atol=1e-6)
    np.testing.assert_allclose(encoded.std(axes), 1.0, atol=1e-6)


def test_large_offset_does_not_cancel():
    """The one-pass variance of these data is negative in float32, and 4 digits in float64."""
    data = dataset(offset=1e6, dtype=np.float64)
    normaliser = GaussianNormaliser.fit(data)
    expected = dataset(dtype=np.float64).values.std((0, 1, 3, 4))
    np.testing.assert_allclose(normaliser.std, expected, rtol=1e-9)
    single = GaussianNormaliser.fit(dataset(offset=1e4))
    np.testing.assert_allclose(single.std, expected, rtol=1e-4)


@settings(deadline=None, max_examples=15)
@given(
    mean=st.floats(-1e3, 1e3),
    std=st.floats(1e-2, 1e3),
    n_space=st.integers(0, 3),
)
def test_round_trip(mean, std, n_space):
    normaliser = GaussianNormaliser((mean, 0.0), (std, 1.0))
    u = np.random.default_rng(3).normal(size=(2, 2, *(3,) * n_space)).astype(np.float32)
    back = normaliser.decode(normaliser.encode(jnp.asarray(u)))
    assert back.dtype == jnp.float32
    np.testing.assert_allclose(back, u, atol=1e-6 * (abs(mean) + std + 1.0) * 4)


def test_dtype_follows_the_input(x64):
    normaliser = GaussianNormaliser((0.1,), (0.3,))
    for dtype in (jnp.float32, jnp.float64):
        assert normaliser.encode(jnp.ones((1, 1, 4), dtype)).dtype == dtype
        assert normaliser.decode(jnp.ones((1, 1, 4), dtype)).dtype == dtype
    u = jnp.ones((1, 1, 4), jnp.float64) / 3
    np.testing.assert_allclose(normaliser.encode(u), (1 / 3 - 0.1) / 0.3, rtol=1e-15)


def test_constant_channel_is_an_error_or_takes_the_floor():
    values = np.full((2, 3, 1, 4), 0.1, np.float32)
    data = FieldDataset.from_array(values, dt=1.0, domain_extent=1.0, channels=("p",))
    with pytest.raises(ValueError, match="channel 'p' is constant"):
        GaussianNormaliser.fit(data)
    assert GaussianNormaliser.fit(data, minimum_std=0.5).std == (0.5,)
    with pytest.raises(ValueError, match="`minimum_std` must be zero or positive"):
        GaussianNormaliser.fit(data, minimum_std=-1.0)


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.0,), (0.0,), "`std` of channel 0 must be positive"),
        ((0.0, 1.0), (1.0,), "2 and 1 numbers"),
        ((float("nan"),), (1.0,), "`mean` of channel 0 must be finite"),
        ((), (), "one number for each channel"),
    ],
)
def test_bad_figures_are_named(mean, std, message):
    with pytest.raises(ValueError, match=message):
        GaussianNormaliser(mean, std)


def test_wrong_channel_count_names_the_axis():
    with pytest.raises(ValueError, match="2 channels on axis 1"):
        GaussianNormaliser((0.0, 1.0), (1.0, 2.0)).encode(jnp.ones((4, 3, 8)))


def test_nothing_to_train_and_constructor_arguments_are_attributes():
    normaliser = GaussianNormaliser.fit(dataset())
    assert jax.tree.leaves(eqx.filter(normaliser, eqx.is_inexact_array)) == []
    rebuilt = GaussianNormaliser(mean=normaliser.mean, std=normaliser.std)
    assert eqx.tree_equal(normaliser, rebuilt)
    u = jnp.ones((2, 3, 4))
    assert eqx.tree_equal(IdentityNormaliser().decode(IdentityNormaliser().encode(u)), u)
