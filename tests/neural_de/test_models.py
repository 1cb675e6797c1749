"""Models, integrals over time, random times, schedules."""

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import sciml
from sciml.neural_de import (
    ErrorEstimate,
    JacobianFrobenius,
    KineticEnergy,
    LatentField,
    LatentODE,
    LocalRegularization,
    NeuralODE,
    NeuralSDE,
    TargetNFE,
    TaylorEnergy,
    augment,
    exponential_decay,
    steer_end_time,
    steer_times,
)
from sciml.neural_de._solve_with import check_penalty


def test_taylor_energy_is_the_derivative_of_the_solution(x64):
    def field(t, y, args):
        return jnp.tanh(y[::-1] * jnp.asarray([1.0, -2.0])) + t

    def derivative(f):
        return lambda t, y: jax.jvp(f, (t, y), (jnp.ones_like(t), field(t, y, None)))[1]

    y, t = jnp.asarray([0.3, -1.1]), jnp.asarray(0.4)
    first = lambda t, y: field(t, y, None)  # noqa: E731
    expected = first
    for order in (1, 2, 3):
        value = TaylorEnergy(order).integrand(field, t, y, None)
        np.testing.assert_allclose(value, jnp.mean(expected(t, y) ** 2), rtol=1e-12)
        expected = derivative(expected)
    kinetic = KineticEnergy().integrand(field, t, y, None)
    np.testing.assert_allclose(kinetic, jnp.mean(first(t, y) ** 2), rtol=1e-12)


def test_taylor_energy_without_rules_of_taylor_mode(x64):
    y, t = jnp.asarray([0.3, -1.1]), jnp.asarray(0.4)
    mix = jnp.asarray([1.0, -2.0])

    def energy(activation, order):
        field = lambda t, y, args: activation(y[::-1] * mix) + t  # noqa: E731
        return TaylorEnergy(order).integrand(field, t, y, None)

    @jax.jit
    def energies():
        smooth = [energy(f, 3) for f in (jax.nn.softplus, lambda z: jnp.log1p(jnp.exp(z)))]
        # |z| = relu(z) + relu(-z).
        relu = [energy(f, 3) for f in (lambda z: jax.nn.relu(z) + jax.nn.relu(-z), jnp.abs)]
        return smooth, relu, energy(jnp.arctan, 2)

    smooth, relu, arctan = energies()
    np.testing.assert_allclose(*smooth, rtol=1e-12)
    np.testing.assert_allclose(*relu, rtol=1e-12)
    z, rate = y[::-1] * mix, (jnp.arctan(y[::-1] * mix) + t)[::-1] * mix
    np.testing.assert_allclose(arctan, jnp.mean((rate / (1 + z**2) + 1) ** 2), rtol=1e-12)

    def broken(t, y, args):
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        TaylorEnergy(2).integrand(broken, t, y, None)


def test_jacobian_estimate_is_unbiased(x64):
    matrix = jnp.asarray(np.random.default_rng(9).normal(size=(3, 3)))
    keys = jax.random.split(jax.random.key(2), 2000)

    @jax.jit
    @jax.vmap
    def draws(key):
        quadrature = JacobianFrobenius(key=key)
        return quadrature.integrand(lambda t, y, args: matrix @ y, 0.0, jnp.ones(3), None)

    values = draws(keys)
    error = jnp.std(values) / np.sqrt(len(keys))
    assert abs(jnp.mean(values) - jnp.sum(matrix**2) / 3) < 4 * error


def test_random_times_stay_in_their_range(getkey):
    ends = jnp.stack([steer_end_time(getkey(), 1.0, 0.5) for _ in range(20)])
    assert ends.min() >= 0.5
    assert ends.max() <= 1.5
    ts = steer_times(getkey(), jnp.asarray([0.0, 0.1, 0.5, 1.0]))
    assert (jnp.diff(ts) >= 0).all()
    assert ts[0] == 0.0
    with pytest.raises(ValueError, match="below"):
        steer_end_time(getkey(), 1.0, 1.0)
    with pytest.raises(ValueError, match="`ts` must not decrease"):
        steer_times(getkey(), jnp.asarray([1.0, 0.5, 0.0]))


def test_weights_follow_their_schedule():
    schedule = exponential_decay(100.0, 1.0, 10)
    np.testing.assert_allclose([schedule(k) for k in (0, 5, 10, 99)], [100, 10, 1, 1], rtol=1e-5)
    weight = jnp.asarray(1.0)
    assert TargetNFE(50.0).update(weight, 100) > 1
    assert TargetNFE(50.0).update(weight, 25) < 1


@pytest.fixture(scope="module")
def model():
    return NeuralODE(
        LatentField(2, 8, key=jax.random.key(31)), regularization={"error": ErrorEstimate()}
    )


def test_a_model_trains_saves_and_loads(model, tmp_path):
    batch = jax.random.normal(jax.random.key(4), (6, 2))

    def parts(model, batch):
        y, penalty, _ = model.as_one_state(batch, weights={"error": 1e3})
        return y, jnp.mean((y - 0.5 * batch) ** 2), penalty.total

    def loss(model, batch, key):
        _, task, penalty = parts(model, batch)
        return task + penalty

    with jax.numpy_dtype_promotion("standard"):
        result = sciml.train.fit(
            model, [batch], loss=loss, optimizer=optax.adam(1e-2), n_steps=10,
            key=jax.random.key(5), progress=False,
        )  # fmt: skip
    trained, judge = result.value, eqx.filter_jit(parts)
    _, *before = judge(model, batch)
    end, *after = judge(trained, batch)
    assert after[0] < before[0]
    # The task's gradient alone leaves it as it is.
    assert after[1] < 0.6 * before[1]
    for old, new in zip(jax.tree.leaves(model.field), jax.tree.leaves(trained.field), strict=True):
        if hasattr(old, "shape"):
            assert not np.array_equal(old, new)
    sciml.save(tmp_path / "model", trained)
    np.testing.assert_array_equal(end, judge(sciml.load(tmp_path / "model"), batch)[0])


def test_each_sample_steps_by_itself_under_vmap(model):
    batch = jax.random.normal(jax.random.key(4), (3, 2))

    @eqx.filter_jit
    def run(model, y0):
        return model(y0)[0]

    together = eqx.filter_vmap(run, in_axes=(None, 0))(model, batch)
    for y0, y in zip(batch, together, strict=True):
        np.testing.assert_allclose(run(model, y0), y, atol=1e-6)


def test_local_regularisation_asks_for_a_key():
    model = NeuralODE(
        LatentField(2, 4, key=jax.random.key(3)),
        regularization=LocalRegularization(),
        adjoint=diffrax.BacksolveAdjoint(),
    )
    with pytest.raises(ValueError, match="key"):
        model(jnp.ones(2))


def test_latent_model_ignores_what_was_not_observed():
    model = LatentODE(1, n_latent=2, hidden_channels=4, key=jax.random.key(3))
    ts = jnp.linspace(0.0, 1.0, 6)
    mask = jnp.asarray([True, False, True, True, False, True])[:, None]
    values = jnp.sin(ts)[:, None]
    spoiled = jnp.where(mask, values, jnp.nan)
    for a, b in zip(model.encode(values, mask, ts), model.encode(spoiled, mask, ts), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_regulariser_without_a_name_is_told():
    with pytest.raises(TypeError, match=r"a dictionary of step regularisers"):
        check_penalty(ErrorEstimate())


def test_integrals_are_seen_by_every_adjoint(x64):
    def total(rate, adjoint):
        term, y0, norm = augment(
            diffrax.ODETerm(Decay(rate)), jnp.ones(2), {"kinetic": KineticEnergy()}
        )
        solution = diffrax.diffeqsolve(
            term, diffrax.Tsit5(), 0.0, 1.0, 0.1, y0, adjoint=adjoint, max_steps=64,
            stepsize_controller=diffrax.PIDController(rtol=1e-8, atol=1e-8, norm=norm),
        )  # fmt: skip
        return solution.ys[1]["kinetic"][-1]

    # The integral of (r exp(-r t))^2.
    wanted = jax.grad(lambda r: 0.5 * r * (1 - jnp.exp(-2 * r)))(1.5)
    controller = diffrax.PIDController(rtol=1e-8, atol=1e-8)
    adjoint = diffrax.BacksolveAdjoint(stepsize_controller=controller)
    found = jax.jit(jax.grad(lambda rate: total(rate, adjoint)))(jnp.asarray(1.5))
    np.testing.assert_allclose(found, wanted, rtol=1e-5)


class Decay(eqx.Module):
    rate: jax.Array

    def __call__(self, t, y, args):
        return -self.rate * y


def test_stochastic_model_has_the_moments_of_geometric_brownian_motion():
    model = NeuralSDE(
        lambda t, y, args: -0.5 * y, lambda t, y, args: 0.2 * y, rtol=1e-2, atol=1e-2,
        regularization={"error": ErrorEstimate()}, max_steps=256,
    )  # fmt: skip
    paths, penalty, _ = model(jnp.ones(1), key=jax.random.key(8), n_paths=2000)
    # Stratonovich: the mean is exp(drift + noise^2 / 2).
    expected, spread = np.exp(-0.5 + 0.02), np.exp(-0.48) * np.sqrt(np.expm1(0.04))
    assert abs(float(jnp.mean(paths)) - expected) < 4 * spread / np.sqrt(2000)
    assert abs(float(jnp.std(paths)) - spread) < 0.1 * spread
    assert penalty.total > 0


def test_models_begin_at_their_own_time_whatever_times_are_asked_for(x64):
    def decay(t, y, args):
        return -y

    ts = jnp.asarray([1.0, 2.0])
    wanted = np.exp(-np.asarray(ts))
    model, one = NeuralODE(decay, t1=2.0, rtol=1e-8, atol=1e-8), jnp.ones(1)
    np.testing.assert_allclose(model(one, ts=ts)[0][:, 0], wanted, rtol=1e-6)
    there = model.as_one_state(jnp.ones((3, 1)), ts=ts)[0]
    np.testing.assert_allclose(there[:, 1, 0], wanted, rtol=1e-6)
    back = NeuralODE(decay, t0=3.0, t1=0.0, rtol=1e-8, atol=1e-8)(one, ts=ts[::-1])[0][:, 0]
    np.testing.assert_allclose(back, np.exp([1.0, 2.0]), rtol=1e-6)
    noisy = NeuralSDE(decay, lambda t, y, args: 0.0 * y, rtol=1e-5, atol=1e-5)
    paths, _, _ = noisy(one, key=jax.random.key(3), ts=ts)
    np.testing.assert_allclose(paths[:, 0, 0], wanted, rtol=1e-3)
    for refused, words in (([], "one time at least"), ([-1.0, 1.0], "go on from `t0` = 0.0")):
        with pytest.raises(ValueError, match=words):
            model(one, ts=jnp.asarray(refused))
        with pytest.raises(ValueError, match=words):
            noisy(one, key=jax.random.key(3), ts=jnp.asarray(refused))


def test_a_late_series_has_its_latent_state_at_its_first_time():
    """The field does not see time, so the bound of a series is that of the series moved."""
    model = LatentODE(1, n_latent=2, hidden_channels=4, key=jax.random.key(3))
    ts = jnp.linspace(0.0, 1.0, 5)
    values, mask = jnp.sin(3 * ts)[None, :, None], jnp.ones((1, 5, 1), bool)

    @eqx.filter_jit
    def bound(ts):
        return model.elbo(values, mask, ts, key=jax.random.key(5), inference=True)[0]

    np.testing.assert_allclose(bound(ts + 8.0), bound(ts), rtol=1e-3)


def test_a_series_that_runs_backwards_is_refused():
    model = LatentODE(1, n_latent=2, hidden_channels=4, key=jax.random.key(3))
    ts = jnp.asarray([0.0, 0.5, 0.25])
    values, mask = jnp.ones((1, 3, 1)), jnp.ones((1, 3, 1), bool)
    for times in (ts, ts[::-1], ts * jnp.nan):
        with pytest.raises(ValueError, match="`ts` must not decrease, got"):
            model.elbo(values, mask, times, key=jax.random.key(5))
    encode = eqx.filter_jit(model.encode)
    assert np.isfinite(encode(values[0], mask[0], jnp.sort(ts))[0]).all()
    with pytest.raises(RuntimeError, match="`ts` must not decrease"):
        encode(values[0], mask[0], ts)


@pytest.mark.parametrize("t0", [1e4, -1e4])
def test_a_solve_leaves_a_large_begin(t0):
    """The first step of a state of zeros would be below the spacing of float32 at ``t0``."""
    model = NeuralODE(lambda t, y, args: jnp.cos(t - t0)[None], t0=t0, t1=t0 + 8)
    np.testing.assert_allclose(model(jnp.zeros(1))[0], np.sin(8.0), atol=2e-3)
