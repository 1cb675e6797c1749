"""The forecaster on coefficients, and the windows that are encoded once for it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.data import FieldDataset, GaussianNormaliser, encode_windows
from sciml.neural_operators import TransformOnceForecaster
from sciml.numerics import FourierBasis, relative_l2
from sciml.train import spectral_loss

BASIS = FourierBasis((3, 5))


@pytest.fixture(scope="module")
def dataset():
    rng = np.random.default_rng(139)
    return FieldDataset.from_array(
        rng.normal(size=(4, 8, 2, 6, 7)).astype(np.float32),
        dt=0.5,
        domain_extent=1.0,
        context=rng.normal(size=(1, 1, 6, 7)).astype(np.float32),
    )


@pytest.fixture(scope="module")
def model(dataset):
    return TransformOnceForecaster(
        2, 2, 3, BASIS, hidden_channels=4, n_layers=1, context_channels=1,
        normaliser=GaussianNormaliser.fit(dataset), key=jax.random.key(149),
    )  # fmt: skip


def test_the_loss_on_encoded_windows_is_that_of_the_forecasts(dataset, model):
    options = {"batch_size": 2, "seed": 151}
    encoded = encode_windows(BASIS, dataset, 2, 3, normaliser=model.normaliser, **options)
    fields = dataset.windows(2, 3, **options)
    assert encoded.steps_per_epoch == fields.steps_per_epoch
    assert encoded.describe(1) == fields.describe(1)
    batch, window = encoded[1], fields[1]
    assert batch.inputs.shape == (2, 5, 3, 5)

    @eqx.filter_jit
    def both(model, batch, window):
        def error(inputs, targets, context):
            scale = model.normaliser.encode
            return relative_l2(scale(model(inputs, 3, context=context)), scale(targets))

        return spectral_loss(model, batch, jax.random.key(0)), jnp.mean(jax.vmap(error)(*window))

    window = jax.tree.map(jnp.asarray, window)
    np.testing.assert_allclose(*both(model, batch, window), rtol=1e-5)


def test_fewer_steps_are_the_first_ones(model):
    u = jax.random.normal(jax.random.key(157), (3, 2, 6, 7))
    forecast = eqx.filter_jit(lambda model, n: model(u, n, context=jnp.ones((1, 6, 7))))
    np.testing.assert_allclose(forecast(model, 2), forecast(model, 3)[:2], atol=1e-6)


def test_bad_input_is_refused(model, getkey):
    u, context = jnp.ones((2, 2, 6, 7)), jnp.ones((1, 6, 7))
    with pytest.raises(ValueError, match="n_out=3 snapshots at once, 4 were asked"):
        model(u, 4, context=context)
    with pytest.raises(ValueError, match="at least n_in=2"):
        model(u[:1], 2, context=context)
    with pytest.raises(ValueError, match="pass `context`"):
        model(u, 2)
