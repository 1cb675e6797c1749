"""Pointwise maps, coordinates, the Fourier layer and stacks of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nn import (
    ChannelLinear,
    ChannelMLP,
    FourierLayer,
    apply_stack,
    coordinate_channels,
    make_stack,
    n_coordinate_channels,
)


def test_channel_linear_acts_point_by_point(getkey):
    layer = ChannelLinear(3, 2, key=getkey())
    layer = eqx.tree_at(lambda m: m.bias, layer, jnp.asarray([0.5, -1.0]))
    v = jax.random.normal(getkey(), (3, 4, 5))
    expected = np.einsum("oi,ixy->oxy", layer.weight, v) + np.asarray([0.5, -1.0])[:, None, None]
    np.testing.assert_allclose(layer(v), expected, atol=1e-6)
    np.testing.assert_allclose(layer(v[:, 2, 3]), expected[:, 2, 3], atol=1e-6)
    assert ChannelLinear(3, 2, use_bias=False, key=getkey()).bias is None


def test_channel_mlp_is_two_maps_with_an_activation(getkey):
    mlp = ChannelMLP(2, 1, 5, activation=jnp.tanh, key=getkey())
    v = jax.random.normal(getkey(), (2, 7))
    np.testing.assert_allclose(mlp(v), mlp.second(jnp.tanh(mlp.first(v))))
    with pytest.raises(ValueError, match="axis 0 of `v` must have size 2"):
        mlp(jnp.ones((3, 7)))


def test_coordinates_agree_on_every_grid():
    coarse = coordinate_channels((4, 6), (True, False), jnp.float32)
    fine = coordinate_channels((8, 12), (True, False), jnp.float32)
    assert coarse.shape == (n_coordinate_channels((True, False)), 4, 6) == (3, 4, 6)
    np.testing.assert_allclose(fine[:, ::2, ::2], coarse, atol=1e-6)


def test_a_stack_is_its_layers_one_after_another(getkey):
    key = getkey()

    def make(key):
        return FourierLayer(3, (2, 2), 4, key=key)

    v = jax.random.normal(getkey(), (3, 6, 6))

    @jax.jit
    def both(v):
        first, second = (make(k) for k in jax.random.split(key))
        return apply_stack(make_stack(make, 2, key), v), second(first(v))

    stacked, expected = both(v)
    np.testing.assert_allclose(stacked, expected, atol=1e-5)


@pytest.mark.parametrize("n_layers", [2, 11])
def test_written_out_and_looped_stacks_agree(getkey, n_layers):
    stack = make_stack(lambda key: ChannelLinear(2, 2, key=key), n_layers, getkey())
    v = jax.random.normal(getkey(), (2, 5))

    def last(layer, v):
        return 3 * layer(v)

    expected = v
    for i in range(n_layers):
        expected = stack[i](expected)
    np.testing.assert_allclose(apply_stack(stack, v), expected, atol=1e-6)
    np.testing.assert_allclose(apply_stack(stack, v, apply_last=last), 3 * expected, atol=1e-6)
    gradient = jax.grad(lambda stack: jnp.sum(apply_stack(stack, v)))(stack)
    assert len(gradient) == n_layers
    assert gradient[-1].weight.shape == (2, 2)


def test_fourier_layer_is_residual(getkey):
    layer = FourierLayer(3, (2, 2), 4, key=getkey())
    assert layer.mlp is not None
    zero = eqx.tree_at(
        lambda m: m.mlp.second.weight, layer, jnp.zeros_like(layer.mlp.second.weight)
    )
    v = jax.random.normal(getkey(), (3, 6, 6))
    np.testing.assert_allclose(zero(v), v)
