"""The Fourier layer equals its formula by FFT, in each form, in value and derivatives."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.nn import FourierLayer, LayerForm, gelu


def formula(layer, v, is_last=False):
    """Return the layer by NumPy-like steps: FFT of all modes, einsum, no folding of biases."""
    modes, n = layer.n_modes, v.shape[1:]
    axes = tuple(range(1, v.ndim))
    full = jnp.fft.fftn(v, axes=axes, norm="forward")
    weight = layer.spectral.weight.astype(v.dtype)
    weight = jax.lax.complex(weight[..., 0, :], weight[..., 1, :])
    kept = np.ix_(
        *(
            np.arange(-(m - 1) if axis < len(modes) - 1 else 0, m) % n[axis]
            for axis, m in enumerate(modes)
        )
    )
    mixed = jnp.einsum("i...,...oi->o...", full[(slice(None), *kept)], weight)
    half = jnp.zeros((len(mixed), *n[:-1], n[-1] // 2 + 1), full.dtype)
    half = half.at[(slice(None), *kept)].set(mixed)
    z = jnp.fft.irfftn(half, n, axes=axes, norm="forward")
    z = z + _affine(layer.pointwise, v)
    act = (lambda u: u) if is_last and layer.form is not LayerForm.RESIDUAL else layer.activation
    if layer.form is LayerForm.PLAIN:
        return act(z)
    inner = _affine(layer.mlp.second, layer.activation(_affine(layer.mlp.first, act(z))))
    if layer.form is LayerForm.RESIDUAL:
        return v + inner
    return act(inner + layer.gate.astype(v.dtype).reshape(-1, *(1,) * len(n)) * v)


def _affine(linear, v):
    out = jnp.einsum("oi,i...->o...", linear.weight.astype(v.dtype), v)
    return out + linear.bias.astype(v.dtype).reshape(-1, *(1,) * (v.ndim - 1))


def make(form, modes, key):
    mlp = None if form is LayerForm.PLAIN else 4
    layer = FourierLayer(3, modes, mlp, form=form, activation=gelu, key=key)
    bias = jnp.asarray([0.3, -0.2, 0.5])
    return eqx.tree_at(lambda m: m.pointwise.bias, layer, bias)


@pytest.mark.parametrize("form", list(LayerForm))
@pytest.mark.parametrize(
    ("n_points", "modes"), [((9,), (4,)), ((12, 7), (3, 4)), ((7, 6, 5), (3, 2, 3))]
)
def test_it_is_the_formula_in_float64(x64, getkey, form, n_points, modes):
    layer = make(form, modes, getkey())
    v = jax.random.normal(getkey(), (2, 3, *n_points), jnp.float64)
    seeds = jax.random.normal(getkey(), v.shape, jnp.float64)

    @eqx.filter_jit
    def all_of(function):
        def total(layer, v):
            return jnp.sum(seeds * jax.vmap(lambda u: function(layer, u))(v))

        return (
            jax.vmap(lambda u: function(layer, u, is_last=True))(v),
            eqx.filter_value_and_grad(total)(layer, v),
            jax.grad(total, 1)(layer, v),
            jax.jvp(lambda v: total(layer, v), (v,), (seeds,)),
        )

    found = all_of(lambda layer, u, **kw: layer(u, **kw))
    expected = all_of(formula)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        # Weights are float32, and so are their gradients.
        tolerance = 1e-12 if a.dtype == jnp.float64 else 2e-6
        np.testing.assert_allclose(a, b, atol=tolerance * max(1, float(jnp.max(jnp.abs(b)))))


def test_float32_is_accurate_to_round_off(getkey):
    layer = make(LayerForm.PLAIN, (5, 4), getkey())
    v = jax.random.normal(getkey(), (2, 3, 16, 15))

    @jax.jit
    def values_and_gradients(v):
        def total(function):
            return lambda v: jnp.sum(jax.vmap(lambda u: function(layer, u))(v) ** 2)

        functions = (lambda layer, u: layer(u), formula)
        return [(jax.vmap(lambda u: f(layer, u))(v), jax.grad(total(f))(v)) for f in functions]  # noqa: B023

    (value, gradient), (expected, expected_gradient) = values_and_gradients(v)
    assert _difference(value, expected) < 5e-7
    assert _difference(gradient, expected_gradient) < 5e-6


def test_forms_need_an_mlp_or_none(getkey):
    with pytest.raises(ValueError, match="`mlp_channels` must be a number, and None"):
        FourierLayer(2, (2,), 4, form=LayerForm.PLAIN, key=getkey())
    with pytest.raises(ValueError, match="got None for LayerForm"):
        FourierLayer(2, (2,), None, form=LayerForm.GATED, key=getkey())


def _difference(a, b):
    return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))
