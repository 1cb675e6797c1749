"""The compiled step: equal to optax by hand, compiled once, donating only what is its own."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sciml.train._step import TrainingStep


class Affine(eqx.Module):
    weight: jax.Array
    shift: jax.Array
    count: jax.Array
    noise_key: jax.Array
    table: tuple[float, ...]
    options: dict = eqx.field(static=True)

    def __init__(self, size=3):
        self.weight = jnp.linspace(0.5, 1.5, size)
        self.shift = jnp.zeros((), jnp.bfloat16)
        self.count = jnp.arange(2)
        self.noise_key = jax.random.key(31)
        self.table = (0.5, 1.5)
        self.options = {"not": "hashable"}

    def __call__(self, x):
        return self.weight @ x + self.shift.astype(x.dtype)


def _loss(model, batch, key):
    x, y = batch
    noise = 0.01 * jax.random.normal(key, y.shape)
    return jnp.mean((jax.vmap(model)(x) - y + noise) ** 2)


def _batch(seed, n=8):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 3), np.float32), rng.standard_normal(n, np.float32)


def test_equals_optax_by_hand(getkey):
    key, optimizer = getkey(), optax.adam(0.1)
    step = TrainingStep(Affine(), _loss, optimizer, key)
    for i in range(4):
        figures = step.advance(_batch(i), i)

    model = Affine()
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    state = optimizer.init(params)
    for i in range(4):
        value, gradient = jax.value_and_grad(
            lambda p, i=i: _loss(eqx.combine(p, rest), _batch(i), jax.random.fold_in(key, i))
        )(params)
        with jax.numpy_dtype_promotion("standard"):
            updates, state = optimizer.update(gradient, state, params)
            params = optax.apply_updates(params, updates)
            norm = optax.tree.norm(gradient)
    np.testing.assert_allclose(step.model.weight, params.weight, rtol=1e-6)
    np.testing.assert_allclose(figures.summary[0], value, rtol=1e-5)
    np.testing.assert_allclose(figures.summary[1], norm, rtol=1e-5)


def test_only_floating_arrays_move(getkey):
    step = TrainingStep(Affine(), _loss, optax.adamw(0.1, weight_decay=0.5), getkey())
    step.advance(_batch(3), 0)
    model = step.model
    assert np.array_equal(model.count, [0, 1])
    assert model.noise_key == jax.random.key(31)
    assert model.table == (0.5, 1.5)
    assert model.shift.dtype == jnp.bfloat16
    assert model.shift != 0


def test_compiled_once_for_each_shape(getkey):
    traces = []

    def counted(model, batch, key):
        traces.append(1)
        return _loss(model, batch, key)

    # A weakly typed array and a Python number in the optimiser's state must not cost a second
    # compilation either.
    model = eqx.tree_at(lambda m: m.weight, Affine(), jnp.asarray([0.5, 1.0, 2.0]) * 1.0)
    model = eqx.tree_at(lambda m: m.shift, model, jnp.asarray(0.5))
    optimizer = optax.chain(
        optax.adam(1e-3), optax.inject_hyperparams(optax.sgd)(learning_rate=0.1)
    )
    step = TrainingStep(model, counted, optimizer, getkey())
    for i in range(5):
        step.advance(_batch(i), i)
    assert len(traces) == 1
    step.advance(_batch(7, n=5), 5)
    step.advance(_batch(8), 6)
    assert len(traces) == 2


def test_donation_spares_the_caller(getkey):
    model = Affine()
    copies = jax.tree.map(np.array, (model.weight, model.count))
    step = TrainingStep(model, _loss, optax.adam(0.1), getkey())
    old = step.model
    step.advance(_batch(3), 0)
    assert old.weight.is_deleted()
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array)))
    assert np.array_equal(model.weight, copies[0])
    kept = step.copy_of_model()
    step.advance(_batch(4), 1)
    assert not kept.weight.is_deleted()
    assert step.is_alive


@pytest.mark.parametrize("where", ["loss", "gradient", "update"])
def test_a_bad_step_changes_nothing_nor_does_a_later_one(where, getkey):
    def loss(model, batch, key):
        bad, (x, y) = batch
        value = _loss(model, (x, y), key)
        if where == "loss":
            return value + jnp.where(bad, jnp.nan, 0.0)
        # The value stays finite, its derivative is infinite: sqrt at zero.
        poison = jnp.sqrt(jnp.where(bad, 0.0, 1.0) * model.weight[0] ** 2)
        return value + (0.0 * poison if where == "gradient" else 0.0)

    def divide(updates, state, params=None, *, value, **_):
        del params
        huge = jnp.where((where == "update") & (state == 1), jnp.inf, 1.0)
        return jax.tree.map(lambda u: u * huge.astype(u.dtype), updates), state + 1

    poison = optax.GradientTransformationExtraArgs(lambda p: jnp.zeros((), jnp.int32), divide)
    step = TrainingStep(Affine(), loss, optax.chain(optax.adam(0.1), poison), getkey())
    first = step.advance((False, _batch(1)), 0)
    before = jax.tree.map(
        np.array, (step.model.weight, eqx.filter(step.optimizer_state, eqx.is_array))
    )
    second = step.advance((True, _batch(2)), 1)
    third = step.advance((False, _batch(3)), 2)
    after = (step.model.weight, step.optimizer_state)
    assert [int(f.summary[2]) for f in (first, second, third)] == [1, 0, 0]
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))


def test_auxiliary_figures(getkey):
    def loss(model, batch, key):
        return _loss(model, batch, key), {"half": 0.5, "weight": jnp.sum(model.weight)}

    step = TrainingStep(Affine(), loss, optax.sgd(0.1), getkey())
    figures = step.advance(_batch(1), 0)
    assert float(figures.auxiliary["half"]) == 0.5
    assert float(figures.auxiliary["weight"]) == 3.0


@pytest.mark.parametrize(
    ("output", "error", "match"),
    [
        (lambda m: m.weight, ValueError, r"real scalar.*shape \(3,\)"),
        (lambda m: jnp.sum(m.count), ValueError, "real scalar.*dtype int32"),
        (lambda m: (m.weight[0], 3.0), TypeError, "must be a dictionary of scalars"),
        (lambda m: (m.weight[0], {"w": m.weight}), ValueError, "figure 'w' of `loss` must be a sc"),
        (lambda m: (m.weight[0], {"step": 1.0}), ValueError, "with a name other than"),
    ],
)
def test_losses_that_are_none(output, error, match, getkey):
    step = TrainingStep(Affine(), lambda m, b, k: output(m), optax.sgd(0.1), getkey())
    with pytest.raises(error, match=match):
        step.advance(_batch(1), 0)


def test_models_that_cannot_be_trained(getkey):
    with pytest.raises(ValueError, match="nothing to train"):
        TrainingStep({"n": jnp.arange(3)}, _loss, optax.sgd(0.1), getkey())
    with pytest.raises(TypeError, match=r"parameter '\[0\]' is complex"):
        TrainingStep([jnp.ones(3, jnp.complex64)], _loss, optax.sgd(0.1), getkey())


def test_an_optimiser_that_changes_its_structure(getkey):
    changing = optax.GradientTransformation(lambda p: (), lambda u, s, p=None: (u, (jnp.ones(()),)))
    step = TrainingStep(Affine(), _loss, changing, getkey())
    with pytest.raises(TypeError, match="optimiser changed the structure of its state"):
        step.advance(_batch(1), 0)


def test_float64(x64, getkey):
    model = eqx.tree_at(lambda m: m.shift, Affine(), jnp.zeros(()))
    step = TrainingStep(model, lambda m, b, k: jnp.sum(m.weight**2), optax.adam(0.1), getkey())
    figures = step.advance(None, 0)
    assert step.model.weight.dtype == jnp.float64
    assert figures.summary.dtype == jnp.float64


def test_numpy_parameters_train_as_in_equinox(getkey):
    model = eqx.tree_at(lambda m: m.weight, Affine(), np.ones(3))
    step = TrainingStep(model, _loss, optax.sgd(0.1), getkey())
    step.advance(_batch(1), 0)
    assert np.array_equal(model.weight, np.ones(3))
    assert not np.allclose(step.model.weight, 1.0)
