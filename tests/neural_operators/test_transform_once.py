"""TransformOnce: coefficients only, any grid, first weights, loss, save and load."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sciml
from sciml.data import encode_fields
from sciml.neural_operators import (
    HighBandCorrection,
    KeepEnergy,
    ModeMixing,
    TransformOnce,
    TransformOnceBlock,
    TransformOnceUNet,
    VariancePreserving,
)
from sciml.nn import Convolution, UNet
from sciml.numerics import CosineBasis, FourierBasis, MatrixBasis, relative_l2
from sciml.train import fit, spectral_loss

BASIS = CosineBasis((5, 4))
WIDTH, HEAD = 6, 10


def make(key, mixing=ModeMixing.DENSE, basis=BASIS, **options):
    return TransformOnce(
        2, 1, basis, hidden_channels=WIDTH, n_layers=2, head_channels=HEAD, mixing=mixing, key=key,
        **options,
    )  # fmt: skip


@pytest.fixture(scope="module")
def model():
    return make(jax.random.key(73))


@pytest.fixture(scope="module")
def spectral():
    return eqx.filter_jit(lambda model, z: model.spectral(z))


apply = eqx.filter_jit(lambda model, u, **keywords: model(u, **keywords))
encode = jax.jit(BASIS.encode)


@pytest.fixture(scope="module")
def loss_and_gradient():
    return eqx.filter_jit(eqx.filter_value_and_grad(spectral_loss))


@pytest.fixture(scope="module")
def fields():
    rng = np.random.default_rng(79)
    inputs = rng.normal(size=(4, 2, 8, 9)).astype(np.float32)
    targets = rng.normal(size=(4, 1, 8, 9)).astype(np.float32)
    return inputs, targets, encode_fields(BASIS, inputs, targets)


def test_the_pruned_form_is_the_published_one_on_the_full_grid(model, spectral):
    """Lift, transform, cut, blocks, pad, head: the order of the paper, modes one after another."""
    rng = np.random.default_rng(83)
    n = (8, 9)
    u = rng.normal(size=(2, *n))
    x, y = ((np.arange(k) + 0.5) / k for k in n)
    z_positions = BASIS.position_fields()
    v = np.einsum("oi,ixy->oxy", model.lift.weight, u)
    z = np.asarray(encode(v.astype(np.float32))).astype(np.float64)
    z += np.einsum("of,fxy->oxy", model.lift.bias, z_positions)
    del x, y
    for layer in range(2):
        a = np.asarray(model.blocks[layer].channel_weight)[:, 0].reshape(5, 4, WIDTH, WIDTH)
        h = np.asarray(jax.nn.gelu(np.einsum("xyoi,ixy->oxy", a, z)))
        first, second = (np.asarray(b) for b in model.blocks[layer].mode_weights)
        z = z + np.einsum("cqy,cpx,cxy->cpq", second, first, h)
    padded = np.zeros((WIDTH, *n))
    padded[:, :5, :4] = z
    full = np.einsum("oi,ixy->oxy", model.head.first, padded)
    full = np.einsum("oi,ixy->oxy", model.head.second, np.sin(full))
    assert np.abs(full[:, 5:]).max() == 0
    result = spectral(model, encode(u.astype(np.float32)))
    np.testing.assert_allclose(result, full[:, :5, :4], atol=1e-7)


def test_any_grid_and_no_energy_outside_the_basis(model, spectral):
    z = jax.random.normal(jax.random.key(89), (2, 5, 4))
    coarse, fine = BASIS.decode(z, (8, 9)), BASIS.decode(z, (16, 11))
    out = apply(model, coarse, grid=(6, 7))
    np.testing.assert_allclose(out, apply(model, fine, grid=(6, 7)), atol=1e-6)
    assert out.shape == (1, 6, 7)
    assert float(BASIS.tail_energy(out)) < 1e-13 * float(jnp.mean(out**2)) + 1e-16
    np.testing.assert_allclose(out, BASIS.decode(spectral(model, z), (6, 7)), atol=1e-7)


def test_zero_goes_to_zero_without_coordinates(spectral, getkey):
    model = make(getkey(), coordinates=False)
    assert not np.any(spectral(model, jnp.zeros((2, 5, 4))))


def test_number_of_weights(model):
    per_block = 20 * WIDTH**2 + WIDTH * (5**2 + 4**2)
    expected = WIDTH * (2 + 3) + 2 * per_block + HEAD * (WIDTH + 1)
    assert sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array))) == expected


def test_the_loss_is_the_error_of_the_decoded_fields(model, fields, loss_and_gradient, getkey):
    inputs, targets, encoded = fields
    batch = encoded.batches(batch_size=4, seed=0, shuffle=False)[0]
    value, gradient = loss_and_gradient(model, batch, getkey())

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, 0, 0))
    def errors(model, u, target):
        return relative_l2(BASIS.decode(model.spectral(BASIS.encode(u)), (8, 9)), target)

    expected = np.mean(errors(model, jnp.asarray(inputs), jnp.asarray(targets)))
    np.testing.assert_allclose(value, expected, rtol=2e-6)
    assert float(value) > encoded.floor
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert bool(np.all(np.isfinite(leaf))), path
        assert float(np.abs(leaf).max()) > 0, path


def test_gradient_against_a_difference(x64, fields):
    batch = fields[2].batches(batch_size=4, seed=0, shuffle=False)[0]
    with jax.enable_x64(False):  # with the programs of the other models
        model = make(jax.random.key(97), head_scale=1.0)
    model = jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf, np.float64)), model)
    batch = jax.tree.map(lambda a: np.asarray(a, np.float64), batch)
    arrays, static = eqx.partition(model, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    rng = np.random.default_rng(101)
    direction = [rng.normal(size=leaf.shape) for leaf in leaves]

    @jax.jit
    @jax.value_and_grad
    def along(t):
        moved = [leaf + t * d for leaf, d in zip(leaves, direction, strict=True)]
        model = eqx.combine(jax.tree.unflatten(structure, moved), static)
        return spectral_loss(model, batch, jax.random.key(0))

    h = 1e-5
    difference = (float(along(h)[0]) - float(along(-h)[0])) / (2 * h)
    slope = along(0.0)[1]
    np.testing.assert_allclose(slope, difference, rtol=1e-6)


def test_a_training_step_contains_no_fft_and_moves_every_weight(fields, getkey):
    batch = fields[2].batches(batch_size=4, seed=0, shuffle=False)[0]
    for mixing in ModeMixing:
        model = make(jax.random.key(103), mixing)
        gradient = eqx.filter_grad(spectral_loss)
        program = str(eqx.filter_make_jaxpr(gradient)(model, batch, getkey())[0])
        assert "dot_general" in program
        assert "fft" not in program
    solution = fit(
        model, [batch], loss=spectral_loss, optimizer=optax.adam(1e-2), n_steps=30, key=getkey(),
        progress=False,
    )  # fmt: skip
    losses = solution.stats["history"]["loss"][1]
    assert losses[-1] < 0.95 * losses[0]
    before, after = (jax.tree.leaves(eqx.filter(m, eqx.is_array)) for m in (model, solution.value))
    assert all(
        bool(np.any(np.asarray(a) != np.asarray(b))) for a, b in zip(before, after, strict=True)
    )


def test_first_weights_preserve_what_they_promise():
    """The published rule on white noise, the rule from the energy on a field with little of it."""
    key = jax.random.key(107)
    rng = np.random.default_rng(109)
    basis = CosineBasis((8,))

    def energy_of(z, rule):
        model = TransformOnce(
            1, 1, basis, hidden_channels=64, n_layers=1, key=key, initialisation=rule
        )
        weight = np.asarray(model.blocks[0].channel_weight)[:, 0]
        mixed = np.einsum("moi,bim->bom", weight, z, optimize=True)
        return np.mean(np.sum(mixed**2, -1))  # of the decoded field, by Parseval

    for n in (16, 64):  # N / m is 2 and 8
        u = rng.normal(size=(400, 64, n)).astype(np.float32)
        z = np.asarray(jax.jit(jax.vmap(basis.encode))(u))
        np.testing.assert_allclose(energy_of(z, VariancePreserving((n,))), np.mean(u**2), rtol=0.05)
        z = z * np.sqrt(0.3 / 8) / np.std(z)  # energy 0.3 of a field of energy 1
        np.testing.assert_allclose(energy_of(z, KeepEnergy(0.3)), 1.0, rtol=0.05)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_low_precision_stays_finite(model, spectral, dtype):
    out = spectral(model, jnp.ones((2, 5, 4), dtype))
    assert out.dtype == dtype
    assert bool(np.all(np.isfinite(out)))


def test_other_bases_and_dimensions(getkey):
    space = MatrixBasis.from_energy(np.random.default_rng(113).normal(size=(9, 2, 12)), 0.3)
    for basis, shape in (
        (space, (2, 12)),
        (FourierBasis((4,)), (2, 9)),
        (CosineBasis((2, 3, 2)), (2, 4, 5, 3)),
        (CosineBasis((1,)), (2, 1)),
    ):
        for mixing in ModeMixing:

            def apply(key, mixing=mixing, basis=basis, shape=shape):
                return make(key, mixing, basis=basis)(jnp.ones(shape))

            out = eqx.filter_eval_shape(apply, getkey())
            assert out.shape == (1, *shape[1:])


def test_save_and_load_give_the_same_outputs(tmp_path, model, spectral):
    z = jax.random.normal(jax.random.key(127), (2, 5, 4))
    sciml.save(tmp_path / "model", model)
    np.testing.assert_array_equal(spectral(sciml.load(tmp_path / "model"), z), spectral(model, z))
    space = MatrixBasis.from_energy(np.random.default_rng(131).normal(size=(9, 2, 12)), 0.3)
    other = make(jax.random.key(137), basis=space)
    sciml.save(tmp_path / "other", other)
    assert sciml.load(tmp_path / "other").basis == space


def test_a_high_band_correction_starts_at_the_operator_and_leaves_the_modes(
    getkey, model, spectral
):
    u = jax.random.normal(getkey(), (2, 8, 9))
    corrected = HighBandCorrection(model, 1, (False, True), hidden_channels=3, key=getkey())
    np.testing.assert_allclose(apply(corrected, u), apply(model, u), atol=1e-7)
    last = corrected.layers[-1]
    moved = eqx.tree_at(lambda m: m.layers[-1].weight, corrected, last.weight + 1.0)
    out = apply(moved, u)
    np.testing.assert_allclose(encode(out), spectral(model, encode(u)), atol=1e-5)
    assert float(BASIS.tail_energy(out)) > 1e-3


def test_the_unet_variant_learns_from_every_weight(fields, loss_and_gradient, getkey):
    model = TransformOnceUNet(2, 1, BASIS, hidden_channels=3, n_levels=1, key=getkey())
    batch = fields[2].batches(batch_size=4, seed=0, shuffle=False)[0]
    value, gradient = loss_and_gradient(model, batch, getkey())
    assert math.isfinite(float(value))
    for path, leaf in jax.tree_util.tree_leaves_with_path(gradient):
        assert float(np.abs(leaf).max()) > 0, path


def test_the_unet_keeps_odd_grids_and_wraps_periodic_axes(getkey):
    net = eqx.filter_jit(UNet(1, 2, (True, True), hidden_channels=3, n_levels=1, key=getkey()))
    v = jax.random.normal(getkey(), (1, 8, 6))
    moved = net(jnp.roll(v, (2, 4), (1, 2)))
    np.testing.assert_allclose(moved, jnp.roll(net(v), (2, 4), (1, 2)), atol=1e-5)
    assert eqx.filter_eval_shape(net, jnp.ones((1, 7, 5))).shape == (2, 7, 5)
    with pytest.raises(ValueError, match="must be odd"):
        Convolution(1, 1, 2, (True,), key=getkey())


def test_bad_input_is_refused(model, spectral, getkey):
    with pytest.raises(ValueError, match="axis 0 of `z` must have size 2"):
        spectral(model, jnp.ones((1, 5, 4)))
    with pytest.raises(ValueError, match="cannot hold"):
        apply(model, jnp.ones((2, 3, 9)))
    with pytest.raises(ValueError, match="cannot hold"):
        apply(model, jnp.ones((2, 8, 9)), grid=(3, 3))
    with pytest.raises(TypeError, match="modes"):
        TransformOnce(1, 1, BASIS, modes=3, key=getkey())  # pyright: ignore[reportCallIssue]
    with pytest.raises(ValueError, match="at most 1"):
        KeepEnergy(1.5)
    with pytest.raises(ValueError, match="axis by axis"):
        VariancePreserving((4, 4)).gains((5, 4), 2)
    with pytest.raises(ValueError, match="`z`"):
        TransformOnceBlock(3, BASIS, key=getkey())(jnp.ones((3, 5, 5)))
