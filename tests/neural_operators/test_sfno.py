"""What SFNO promises beyond a forecaster: physical time, free grids, exact start, widening."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.neural_operators import SFNO, SpatiotemporalFNO
from sciml.neural_operators._sfno import _taylor_coefficients
from sciml.numerics import fourier_resample, relative_l2


@pytest.fixture(scope="module")
def model():
    return SpatiotemporalFNO(
        1, dt=0.5, horizon=4.0, n_modes=(2, 3, 3), hidden_channels=4, n_layers=2, latent_steps=6,
        context_channels=1, key=jax.random.key(29),
    )  # fmt: skip


@pytest.fixture(scope="module")
def window():
    rng = np.random.default_rng(41)
    coarse = jnp.asarray(rng.normal(size=(4, 1, 5, 5)).astype(np.float32))
    return fourier_resample(coarse, (8, 8)), fourier_resample(coarse[0], (8, 8))


def test_building_compiles_one_program_for_each_shape():
    """Operation by operation it was 57; no other test builds one of these sizes."""
    device = jax.devices()[0].client
    before = len(device.live_executables())
    SFNO(2, dt=0.1, horizon=1.0, n_modes=(4, 5, 3), hidden_channels=7, key=jax.random.key(31))
    assert len(device.live_executables()) - before <= 20


def test_alias():
    assert SFNO is SpatiotemporalFNO


def test_number_of_output_steps_does_not_change_the_forecast(model, window):
    inputs, context = window
    fine = model(inputs, 8, context=context)
    coarse = model(inputs, 2, context=context, dt_out=2.0)
    np.testing.assert_allclose(coarse, fine[3::4], atol=1e-6)


def test_any_number_of_input_steps(model, window):
    inputs, context = window
    last = inputs[-1:]
    assert model(last, 3, context=context).shape == (3, 1, 8, 8)
    # A trajectory at rest has no rate of change, however many snapshots say so.
    at_rest = jnp.concatenate([last] * 4)
    np.testing.assert_allclose(
        model(at_rest, 3, context=context), model(last, 3, context=context), atol=1e-6
    )


def test_it_starts_at_the_last_snapshot(model, window):
    inputs, context = window
    early = model(inputs, 1, context=context, dt_out=1e-6)
    np.testing.assert_allclose(early[0], inputs[-1], atol=1e-5)


def test_without_output_weights_it_is_persistence(model, window):
    inputs, context = window
    heads = lambda m: (m.output.weight, m.projection.second.weight)  # noqa: E731
    silent = eqx.tree_at(heads, model, replace_fn=jnp.zeros_like)
    np.testing.assert_array_equal(silent(inputs, 2, context=context), jnp.stack([inputs[-1]] * 2))


def test_translation_equivariance(model, window):
    inputs, context = window
    shift = lambda a: jnp.roll(a, (3, 1), axis=(-2, -1))  # noqa: E731
    moved = model(shift(inputs), 3, context=shift(context))
    np.testing.assert_allclose(moved, shift(model(inputs, 3, context=context)), atol=2e-5)


def test_finer_grids_change_little(model, window):
    inputs, context = window
    fine = model(fourier_resample(inputs, (24, 24)), 3, context=fourier_resample(context, (24, 24)))
    # Activations make harmonics that the coarse grid aliases, so equality is not exact.
    assert relative_l2(model(inputs, 3, context=context), fine[..., ::3, ::3]) < 0.05


def test_widening_the_output_keeps_the_forecast(model, window):
    inputs, context = window
    wide = model.widen_output((3, 4, 4))
    assert wide.output.n_modes == (3, 4, 4)
    assert wide.output_modes == (3, 4, 4)
    np.testing.assert_allclose(
        wide(inputs, 3, context=context), model(inputs, 3, context=context), atol=1e-6
    )
    with pytest.raises(ValueError, match="latent nodes"):
        model.widen_output((4, 4, 4))


def test_history_enters_as_taylor_coefficients(x64):
    times = np.arange(-5, 1) * 0.5
    u = jnp.asarray((2 + 3 * times - 4 * times**2)[:, None, None])
    # A parabola is fitted exactly; in units of a horizon of 4.
    terms = _taylor_coefficients(u, 3, steps_per_horizon=4.0 / 0.5)
    np.testing.assert_allclose(terms[:, 0, 0], [2.0, 3 * 4, -4 * 16])
    # With two terms it is the line through the last snapshot that is nearest to the others.
    slope = np.sum(times * (u[:, 0, 0] - 2.0)) / np.sum(times**2)
    terms = _taylor_coefficients(u, 2, steps_per_horizon=4.0 / 0.5)
    np.testing.assert_allclose(terms[:, 0, 0], [2.0, slope * 4])
    # Too few snapshots for a coefficient leave it at zero.
    terms = _taylor_coefficients(u[-2:], 3, steps_per_horizon=4.0 / 0.5)
    np.testing.assert_allclose(terms[:, 0, 0], [2.0, (3 + 4 * 0.5) * 4, 0.0])
    assert _taylor_coefficients(u[-1:], 2, 8.0)[1].max() == 0


def test_spacing_of_the_inputs_is_physical(x64, model, window):
    inputs, context = (jnp.asarray(a, jnp.float64) for a in window)
    # The same linear change in time, sampled at 0.5 and at 0.25.
    slope, last = inputs[0], inputs[1]
    at_half = jnp.stack([last - 0.5 * k * slope for k in (2, 1, 0)])
    at_quarter = jnp.stack([last - 0.25 * k * slope for k in (2, 1, 0)])
    np.testing.assert_allclose(
        model(at_half, 2, context=context, dt=0.5),
        model(at_quarter, 2, context=context, dt=0.25, dt_out=0.5),
        atol=1e-12,
    )


def test_forecasts_beyond_the_horizon_are_refused(model, window):
    inputs, context = window
    with pytest.raises(ValueError, match=r"beyond the\s+model's horizon 4.*at most 8 steps"):
        model(inputs, 9, context=context)
    for name in ("dt", "dt_out"):
        with pytest.raises(ValueError, match=f"`{name}` must be positive"):
            model(inputs, 2, context=context, **{name: 0.0})


def test_context_is_refused_by_a_model_without_it(window):
    inputs, context = window
    model = SFNO(1, dt=0.5, horizon=1.0, n_modes=(2, 2, 2), hidden_channels=2, latent_steps=5,
                 key=jax.random.key(3))  # fmt: skip
    with pytest.raises(ValueError, match="built with context_channels=0"):
        model(inputs, 2, context=context)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dt": 0.0}, "`dt` must be positive"),
        ({"horizon": -1.0}, "`horizon` must be positive"),
        ({"n_modes": (6, 2, 2), "latent_steps": 8}, "needs? 2 \\* 6 - 1 = 11"),
        ({"n_modes": (2,)}, "of time and of each space axis"),
        ({"buffer_steps": 12}, "leaves none of the 12"),
        ({"n_layers": 1}, "`n_layers` must be at least 2"),
        ({"channels": 0}, "`channels` must be at least 1"),
    ],
)
def test_inconsistent_arguments_are_refused(arguments, message):
    defaults = {"channels": 1, "dt": 0.5, "horizon": 1.0, "n_modes": (2, 2, 2)}
    with pytest.raises(ValueError, match=message):
        SFNO(**(defaults | arguments), key=jax.random.key(3))


def test_space_of_any_dimension(getkey):
    model = SFNO(2, dt=0.5, horizon=1.0, n_modes=(2, 3), hidden_channels=3, latent_steps=5,
                 n_layers=2, key=getkey())  # fmt: skip
    assert model(jnp.ones((3, 2, 8)), 2).shape == (2, 2, 8)
