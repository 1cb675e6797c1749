from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml
from sciml.linear_solvers._direction_network import DirectionNetwork, n_parameters

KEY = jax.random.key(3307)


def small(n_axes=2, **settings):
    return DirectionNetwork(n_axes, n_fine_layers=2, n_coarse_layers=2, key=KEY, **settings)


@pytest.mark.parametrize(
    ("n_axes", "layers", "count"),
    [(3, (4, 6), 97_457), (3, (6, 10), 152_881), (2, (4, 6), 32_657)],
)
def test_parameter_counts_are_the_published_ones(n_axes, layers, count):
    fine, coarse = layers
    network = DirectionNetwork(n_axes, n_fine_layers=fine, n_coarse_layers=coarse, key=KEY)
    assert n_parameters(network) == count


def test_any_size_of_grid_and_any_scale():
    network = eqx.filter_jit(small(use_bias=True))
    for shape in ((7, 10), (1, 3)):
        r = jax.random.normal(KEY, shape)
        out = network(r)
        assert out.shape == shape
        for scale in (2.0**-60, 2.0**60):
            np.testing.assert_allclose(network(r * scale) / scale, out, rtol=1e-5)
    assert (network(jnp.zeros((4, 4))) == 0).all()
    cube = jax.ShapeDtypeStruct((4, 5, 6), jnp.float32)
    assert jax.eval_shape(small(3), cube).shape == (4, 5, 6)


def test_it_commutes_with_shifts_away_from_the_walls():
    network = eqx.filter_jit(small(use_bias=False))
    spot = jnp.zeros((40, 40)).at[18:20, 17].set(1.0)
    moved = jnp.roll(spot, (2, 4), (0, 1))  # even: the coarse grid moves along
    np.testing.assert_allclose(jnp.roll(network(spot), (2, 4), (0, 1)), network(moved), atol=1e-6)


def test_the_identity_skip_starts_as_the_identity():
    r = jax.random.normal(KEY, (6, 7))
    np.testing.assert_allclose(small(identity_skip=True)(r), r, rtol=1e-5)
    assert not np.allclose(small()(r), r, rtol=1e-2)


def test_every_parameter_gets_a_gradient():
    r = jax.random.normal(KEY, (8, 8))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda net: jnp.sum(net(r) ** 2)))(small())
    assert all(jnp.any(leaf != 0) for leaf in jax.tree.leaves(gradient))


def test_the_output_has_the_precision_of_the_residual():
    with jax.enable_x64(True):
        network = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float32) if eqx.is_array(leaf) else leaf, small()
        )
        plane = jax.ShapeDtypeStruct((4, 4), jnp.float64)
        assert jax.eval_shape(network, plane).dtype == jnp.float64


def test_static_misuse():
    with pytest.raises(ValueError, match="n_axes"):
        DirectionNetwork(4, key=KEY)
    with pytest.raises(ValueError, match="even"):
        DirectionNetwork(2, n_coarse_layers=3, key=KEY)
    with pytest.raises(ValueError, match="2 axes"):
        small()(jnp.ones(5))


def test_a_saved_network_is_the_same_and_as_it_was(tmp_path):
    """Saved and loaded equal; and equal to outputs that were stored when it was written."""
    network = small()
    sciml.save(tmp_path / "network", network)
    loaded = sciml.load(tmp_path / "network")
    r = jnp.asarray(np.cos(np.arange(35.0)).reshape(5, 7), jnp.float32)
    np.testing.assert_array_equal(loaded(r), network(r))
    stored = np.load(Path(__file__).parents[1] / "reference" / "direction-network.npz")
    np.testing.assert_allclose(network(r), stored["output"], rtol=1e-5, atol=1e-6)
