"""Invariants of data assimilation: what is not measured never matters, and the gain is linear."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sciml
from sciml.data import Window
from sciml.neural_operators import (
    FNO,
    NODA,
    AssimilationLoss,
    Averaging,
    EnKF,
    EnsembleKalmanFilter,
    FullField,
    GatedGain,
    Nudging,
    PointSensors,
    ResidualPredictor,
    SemilinearStep,
    simulate_measurements,
)
from sciml.problems import KuramotoSivashinsky1D, solve

N, T = 16, 6
OBSERVE = PointSensors.every((N,), 4)


def small_model(key, observe=OBSERVE) -> NODA:
    first, second = jax.random.split(key)
    network = FNO(1, 1, (4,), hidden_channels=4, n_layers=1, key=first)
    gain = GatedGain(1, (4,), hidden_channels=4, n_layers=1, rank=2, key=second)
    return NODA(ResidualPredictor(network), observe, gain)


@pytest.fixture(scope="module")
def model():
    return small_model(jax.random.key(71))


@pytest.fixture(scope="module")
def run():
    return eqx.filter_jit(lambda model, *arguments, **options: model(*arguments, **options))


@pytest.fixture(scope="module")
def measured():
    keys = jax.random.split(jax.random.key(72), 3)
    z0 = jax.random.normal(keys[0], (1, N))
    y = jax.random.normal(keys[1], (T, 4))
    mask = jax.random.bernoulli(keys[2], 0.5, (T, 4)).at[2].set(False).at[4].set(True)
    return z0, y, mask


@pytest.mark.parametrize(
    "observe",
    [
        PointSensors((6, 4), [(0, 1), (5, 3), (2, 2)], n_channels=2, channels=(1,)),
        PointSensors.every((6, 4), 2, n_channels=2),
        FullField((6, 4), n_channels=2),
        Averaging.cells((6, 4), (3, 2), n_channels=2),
    ],
)
def test_adjoints(observe, getkey):
    z = jax.random.normal(getkey(), (2, 6, 4))
    e = jax.random.normal(getkey(), (observe.n_measurements,))
    assert jnp.allclose(jnp.sum(observe(z) * e), jnp.sum(z * observe.adjoint(e)), rtol=1e-5)


def test_cell_averages_are_means():
    z = jnp.arange(24.0).reshape(1, 6, 4)
    means = Averaging.cells((6, 4), (3, 2))(z).reshape(3, 2)
    assert jnp.allclose(means[0, 0], jnp.mean(z[0, :2, :2]))
    assert jnp.allclose(means[2, 1], jnp.mean(z[0, 4:, 2:]))


def test_taper_is_one_at_the_sensor_and_zero_beyond_the_radius():
    taper = OBSERVE.taper(4)
    assert np.allclose(taper[0, 0], 1)
    assert np.all(taper[0, 4:13] == 0)
    assert np.allclose(taper[0, 1], taper[0, 15])  # the grid is periodic
    assert np.all(np.diff(taper[0, :5]) < 0)


def test_gain_is_linear_and_zero_without_sensors(model, getkey):
    gain = eqx.filter_jit(model.gain)
    z, first, second = (jax.random.normal(getkey(), (1, N)) for _ in range(3))
    mask = OBSERVE.adjoint(jnp.ones(4))
    both = gain(z, 2 * first * mask - 3 * second * mask, mask)
    parts = 2 * gain(z, first * mask, mask) - 3 * gain(z, second * mask, mask)
    assert jnp.allclose(both, parts, atol=1e-5)
    assert jnp.all(gain(z, jnp.zeros((1, N)), mask) == 0)
    assert jnp.all(gain(z, jnp.zeros((1, N)), jnp.zeros((1, N))) == 0)


def test_nothing_is_corrected_where_nothing_was_measured(model, run, measured):
    z0, y, mask = measured
    analyses, forecasts = run(model, z0, y, mask)
    assert jnp.array_equal(analyses[2], forecasts[2])
    assert not jnp.allclose(analyses[4], forecasts[4])

    @eqx.filter_jit
    def correct_by_itself(model, z):
        return model.correct(z, OBSERVE(z), jnp.ones(4, bool))

    assert jnp.array_equal(correct_by_itself(model, forecasts[0]), forecasts[0])


def test_masked_nan_leaks_neither_into_values_nor_into_gradients(model, run, measured):
    z0, y, mask = measured
    dirty = jnp.where(mask, y, jnp.nan)
    for left, right in zip(run(model, z0, y, mask), run(model, z0, dirty, mask), strict=True):
        assert jnp.array_equal(left, right)

    @eqx.filter_jit
    @eqx.filter_grad
    def gradient(arguments, mask):
        model, z0, y = arguments
        return jnp.sum(model(z0, y, mask, checkpoint=True)[0] ** 2)

    clean, other = gradient((model, z0, y), mask), gradient((model, z0, dirty), mask)
    for left, right in zip(jax.tree.leaves(clean), jax.tree.leaves(other), strict=True):
        assert np.array_equal(left, right)
        assert np.all(np.isfinite(left))
    for leaf in jax.tree.leaves(eqx.filter(clean[0], eqx.is_inexact_array)):
        assert np.any(np.asarray(leaf) != 0), "a parameter without a gradient"


def test_a_run_cut_in_two_gives_the_same(model, run, measured):
    z0, y, mask = measured
    whole, _ = run(model, z0, y, mask)
    first, _ = run(model, z0, y[:3], mask[:3])
    second, _ = run(model, first[-1], y[3:], mask[3:])
    assert jnp.allclose(whole, jnp.concatenate([first, second]), atol=1e-6)


def test_one_mask_a_time_stands_for_all_sensors(model, run, measured):
    z0, y, _ = measured
    times = jnp.array([True, False, True, True, False, True])
    short, _ = run(model, z0, y, times)
    full, _ = run(model, z0, y, jnp.repeat(times[:, None], 4, axis=1))
    assert jnp.array_equal(short, full)


def test_save_and_load(model, run, measured, tmp_path):
    sciml.save(tmp_path / "noda", model)
    loaded = sciml.load(tmp_path / "noda")
    assert jnp.array_equal(run(loaded, *measured)[0], run(model, *measured)[0])


def test_nudging_with_gain_one_copies_a_full_field(measured):
    z0, _, _ = measured
    y = jnp.arange(2.0 * N).reshape(2, N)
    model = Nudging(lambda z: 0.5 * z, FullField((N,)), 1.0)
    analyses, _ = model(z0, y, jnp.ones(2, bool))
    assert jnp.allclose(analyses[:, 0], y)


def test_nudging_with_a_length_spreads_and_stays_linear():
    model = Nudging(lambda z: z, OBSERVE, 1.0, length=2.0)
    z = jnp.zeros((1, N))
    one = model.correct(z, jnp.array([1.0, 0, 0, 0]), jnp.ones(4, bool))
    assert one[0, 1] > one[0, 3] > 0
    all_ones = model.correct(z, jnp.ones(4), jnp.ones(4, bool))
    assert jnp.allclose(all_ones, 1, atol=0.05)


def advection_diffusion(n: int) -> np.ndarray:
    """One step of a damped, rotating system of ``n`` values."""
    k = np.fft.fftfreq(n, 1 / n)
    symbol = np.exp(-0.01 * k**2 + 0.4j * k)
    symbol[n // 2] = symbol[n // 2].real
    return np.fft.ifft(symbol[:, None] * np.fft.fft(np.eye(n), axis=0), axis=0).real


def test_ensemble_filter_follows_the_kalman_filter():
    n, noise, n_members, steps = 4, 0.5, 200, 12
    step = advection_diffusion(n).astype(np.float32)
    observe = PointSensors.every((n,), 2)
    rng = np.random.default_rng(73)
    perturbations = rng.normal(size=(n_members, 1, n)).astype(np.float32)
    filtered = EnKF(lambda z: z @ step.T, observe, noise, perturbations)
    y = rng.normal(size=(steps, 2)).astype(np.float32)
    analyses, _ = filtered(jnp.zeros((1, n)), y, np.ones(steps, bool))
    # The exact filter, from the covariance that these members have.
    covariance = np.cov(perturbations[:, 0].T)
    C, mean = np.eye(n)[::2], np.zeros(n)
    for k in range(steps):
        mean, covariance = step @ mean, step @ covariance @ step.T
        gain = covariance @ C.T @ np.linalg.inv(C @ covariance @ C.T + noise**2 * np.eye(2))
        mean = mean + gain @ (y[k] - C @ mean)
        covariance = covariance - gain @ C @ covariance
        assert np.allclose(analyses[k, 0], mean, atol=2e-4)


def test_ensemble_filter_ignores_what_is_masked(measured):
    z0, y, mask = measured
    perturbations = jax.random.normal(jax.random.key(74), (8, 1, N))
    model = EnsembleKalmanFilter(
        lambda z: 0.9 * z, OBSERVE, 0.3, perturbations, taper=OBSERVE.taper(6), inflation=1.05
    )
    run = eqx.filter_jit(model)
    clean, dirty = run(z0, y, mask), run(z0, jnp.where(mask, y, jnp.nan), mask)
    assert jnp.array_equal(clean[0], dirty[0])
    assert jnp.allclose(clean[0][2], clean[1][2], atol=1e-6)  # nothing was measured at time 2


PROBLEM = KuramotoSivashinsky1D((N,), domain_extent=22.0)


def test_semilinear_step_is_exact_without_nonlinearity(x64):
    x = jnp.arange(float(N)) * (22.0 / N)
    k = 4 * jnp.pi / 22
    step = SemilinearStep(PROBLEM, jnp.zeros_like, 0.3)
    wave = jnp.sin(k * x)[None]
    assert jnp.allclose(step(wave, 1.7), jnp.exp(1.7 * (k**2 - k**4)) * wave, atol=1e-12)


def test_semilinear_step_has_its_order(x64):
    def convection(z):
        return PROBLEM.to_physical(PROBLEM.nonlinear_term(PROBLEM.to_spectral(z)))

    start = jnp.cos(2 * jnp.pi * jnp.arange(float(N)) / N)[None]
    truth = solve(PROBLEM, start, dt=0.01, n_steps=200, save_every=200).value[-1]
    for order in (1, 2):
        step = SemilinearStep(PROBLEM, convection, 0.1, order=order)

        @jax.jit
        def march(z, dt, n, step=step):
            return jax.lax.fori_loop(0, n, lambda _, z: step(z, dt), z)

        errors = [float(jnp.abs(march(start, 2.0 / n, n) - truth).max()) for n in (40, 80)]
        assert abs(np.log2(errors[0] / errors[1]) - order) < 0.25


def test_irregular_times_reach_the_predictor(getkey):
    network = FNO(2, 1, (4,), hidden_channels=4, n_layers=1, key=getkey())
    predictor = ResidualPredictor(network, dt=0.5)
    model = Nudging(predictor, OBSERVE, 0.0)
    dt = jnp.array([0.5, 0.25])
    z0 = jax.random.normal(getkey(), (1, N))
    analyses, _ = model(z0, jnp.zeros((2, 4)), jnp.zeros(2, bool), dt=dt)
    expected = predictor(predictor(z0, 0.5), 0.25)
    assert jnp.allclose(analyses[1], expected, atol=1e-5)


def test_loss_is_zero_for_a_perfect_model_only(getkey):
    truth = np.broadcast_to(jax.random.normal(getkey(), (2, 1, 1, N)), (2, T, 1, N))
    window = Window(truth[:, :1], truth, None)
    perfect = Nudging(lambda z: z, OBSERVE, 0.0)
    loss = AssimilationLoss(0.0, initial_errors=(0.0,), measurement_weight=1.0)
    assert float(eqx.filter_jit(loss)(perfect, window, getkey())) < 1e-5
    loss = AssimilationLoss(0.0, initial_errors=(1.0,), max_availability=0.0)
    assert float(eqx.filter_jit(loss)(perfect, window, getkey())) > 0.5
    # A batch of one is moved towards zero always: the sample is no other state than itself.
    alone = Window(truth[:1, :1], truth[:1], None)
    for _ in range(3):
        found = eqx.filter_jit(loss)(perfect, alone, getkey())
        assert float(found) == pytest.approx(1.5, rel=1e-5)
    with pytest.raises(ValueError, match="one input snapshot"):
        loss(perfect, Window(truth[:, :2], truth, None), getkey())


def test_the_logarithm_counts_every_snapshot(getkey):
    """A model that halves its state: known errors, and none where all is measured."""
    truth = np.broadcast_to(jax.random.normal(getkey(), (2, 1, 1, N)), (2, T, 1, N))
    window = Window(truth[:, :1], truth, None)
    everywhere, key = FullField((N,)), getkey()

    def added(gain, **options):
        model = Nudging(lambda z: 0.5 * z, everywhere, gain)
        plain = {"initial_errors": (0.0,), "forecast_weight": 0.0}
        losses = [
            eqx.filter_jit(AssimilationLoss(0.0, **plain, **more))(model, window, key)
            for more in (options, options | {"log_weight": 2.0})
        ]
        return float(losses[1] - losses[0])

    errors = 1 - 0.5 ** np.arange(1, T + 1)
    wanted = 2 * np.mean(0.5 * np.log(errors**2 + 3e-4))
    np.testing.assert_allclose(added(0.0), wanted, rtol=1e-4)
    np.testing.assert_allclose(added(1.0, full_share=1.0), np.log(3e-4), rtol=1e-4)


def test_members_that_agree_stay_where_nothing_is_seen():
    """Also where the noise's square is below the smallest number."""
    filter_ = EnKF(lambda z: z, OBSERVE, 1e-25, np.ones((4, 1, N), np.float32))
    state = filter_.start(jnp.ones((1, N)))
    after = filter_.correct(state, jnp.full(4, 3.0), jnp.zeros(4, bool))
    np.testing.assert_array_equal(after, state)


def test_simulated_measurements(getkey):
    truth = jnp.ones((2000, 1, N))
    y, mask = simulate_measurements(OBSERVE, truth, availability=0.3, noise_std=0.2, key=getkey())
    assert abs(float(jnp.std(y)) - 0.2) < 0.01
    assert abs(float(jnp.mean(mask)) - 0.3) < 0.04


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m, z, y, k: m(z[:, :8], y, k), "axis 1 of `z0`"),
        (lambda m, z, y, k: m(z, y[:, :3], k[:, :3]), "axis 1 of `y`"),
        (lambda m, z, y, k: m(z, y[:0], k[:0]), "at least one time"),
        (lambda m, z, y, k: m(z, y, k[:3]), "axis 0 of `mask`"),
        (lambda m, z, y, k: m(z, y.at[4, 1].set(jnp.nan), k), "time 4, measurement 1"),
        (lambda m, z, y, k: m(z, y, k, dt=jnp.zeros(T)), "positive steps"),
        (lambda m, z, y, k: m(z, y, k, dt=jnp.ones(T)), "one fixed step"),
    ],
)
def test_bad_calls(model, measured, call, words):
    with pytest.raises(ValueError, match=words):
        call(model, *measured)


def test_a_mask_of_numbers_is_refused(model, measured):
    z0, y, mask = measured
    with pytest.raises(TypeError):
        model(z0, y, mask.astype(float))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: PointSensors((8,), []), "must not be empty"),
        (lambda: PointSensors((8,), [(8,)]), "indices below"),
        (lambda: PointSensors((8,), [(1,), (1,)]), "an entry twice"),
        (lambda: Averaging(np.full((1, 1, 4), np.nan, np.float32)), "non-finite"),
        (lambda: Averaging.cells((8,), (3,)), "do not divide"),
        (lambda: Nudging(jnp.sin, OBSERVE, -1.0), "zero or positive"),
        (lambda: EnKF(jnp.sin, OBSERVE, -0.1, np.zeros((4, 1, N))), "must be positive"),
        (lambda: EnKF(jnp.sin, OBSERVE, 0.1, np.zeros((1, 1, N))), "at least two members"),
        (lambda: EnKF(jnp.sin, OBSERVE, 0.1, np.zeros((4, 1, N)), inflation=0.5), "at least 1"),
        (lambda: AssimilationLoss(-0.1), "zero or positive"),
        (lambda: AssimilationLoss(0.1, initial_errors=(2.0,)), "between 0 and 1"),
        (lambda: AssimilationLoss(0.1, full_share=2.0), "`full_share` must lie between 0 and 1"),
        (
            lambda: EnKF(jnp.sin, OBSERVE, 0.1, np.zeros((4, 1, N)), taper=np.full((4, N), np.nan)),
            "non-finite",
        ),
        (
            lambda: simulate_measurements(
                OBSERVE,
                jnp.ones((3, 1, N)),
                availability=30.0,
                noise_std=0.1,
                key=jax.random.key(1),
            ),
            "a probability, at most 1",
        ),
        (lambda: SemilinearStep(PROBLEM, jnp.sin, 0.0), "must be positive"),
        (lambda: SemilinearStep(PROBLEM, jnp.sin, 0.1, order=3), "1 or 2"),
        (lambda: GatedGain(1, (4,), lengths=(), key=jax.random.key(1)), "at least one length"),
        (lambda: ResidualPredictor(jnp.sin, dt=-1.0), "must be positive"),
    ],
)
def test_bad_arguments(make, words):
    with pytest.raises(ValueError, match=words):
        make()
