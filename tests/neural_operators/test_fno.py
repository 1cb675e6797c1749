"""FNO itself: grids, axes that are not periodic, the solver forecast, evaluation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sciml.data import FieldDataset
from sciml.neural_operators import FNO, Persistence, SolverForecaster, SpaceTimeFNO, evaluate
from sciml.nn import LayerForm
from sciml.numerics import fourier_resample
from sciml.problems import ETDRK4, NavierStokes2D, taylor_green_vorticity


def test_without_coordinates_it_commutes_with_shifts(getkey):
    model = FNO(1, 2, (3, 3), hidden_channels=4, n_layers=2, coordinates=False, key=getkey())
    model = eqx.filter_jit(model)
    v = fourier_resample(jax.random.normal(getkey(), (1, 5, 5)), (9, 12))
    moved = model(jnp.roll(v, (2, 5), axis=(1, 2)))
    np.testing.assert_allclose(moved, jnp.roll(model(v), (2, 5), axis=(1, 2)), atol=1e-5)


def test_an_axis_that_is_not_periodic_does_not_wrap(getkey):
    model = FNO(1, 1, (3, 3), hidden_channels=4, n_layers=2, periodic=(False, True), key=getkey())
    assert model.lifting.in_channels == 1 + 1 + 2
    v = jax.random.normal(getkey(), (1, 10, 8))
    assert eqx.filter_eval_shape(model, v).shape == (1, 10, 8)


def test_periodic_must_match_the_axes(getkey):
    with pytest.raises(ValueError, match="2 booleans, one of each axis"):
        FNO(1, 1, (3, 3), periodic=(True,), key=getkey())
    with pytest.raises(ValueError, match="must have 3 axes"):
        FNO(1, 1, (3, 3), hidden_channels=2, key=getkey())(jnp.ones((1, 8)))


@pytest.mark.parametrize(("form", "mlp_channels"), [("PLAIN", None), ("GATED", 2)])
def test_forms_of_others_end_without_an_activation(getkey, form, mlp_channels):
    model = FNO(
        2, 1, (3,), hidden_channels=4, n_layers=2, form=LayerForm[form], coordinates=False,
        lifting_channels=None if form == "PLAIN" else 8, key=getkey(),
    )  # fmt: skip
    assert model.mlp_channels == model.layers[0].mlp_channels == mlp_channels
    assert model.projection_channels == 8
    v = jax.random.normal(getkey(), (2, 8))

    @eqx.filter_jit
    def both(model, v):
        first, last = model.layers
        expected = model.projection(last(first(model.lifting(v)), is_last=True))
        return model(v), expected

    np.testing.assert_allclose(*both(model, v), atol=1e-6)


@pytest.mark.parametrize(("dtype", "close"), [("bfloat16", 0.03), ("float16", 0.004)])
def test_half_precision_computes_in_it_and_sums_in_single(getkey, dtype, close):
    # 55 modes of 64 points: the first axis is transformed by FFT, the second by a product.
    model = FNO(1, 1, (28, 4), hidden_channels=6, n_layers=2, coordinates=False, key=getkey())
    v = jax.random.normal(getkey(), (2, 1, 64, 8))

    def loss(model, v):
        values = jax.vmap(model)(v)
        return jnp.mean(values.astype(jnp.float32) ** 2), values

    differentiate = eqx.filter_value_and_grad(loss, has_aux=True)
    (_, full), gradient = eqx.filter_jit(differentiate)(model, v)
    (_, half), rough = eqx.filter_jit(differentiate)(model, v.astype(dtype))
    assert half.dtype == dtype
    assert jnp.linalg.norm(half.astype(jnp.float32) - full) < close * jnp.linalg.norm(full)
    for exact, other in zip(jax.tree.leaves(gradient), jax.tree.leaves(rough), strict=True):
        assert other.dtype == jnp.float32
        assert jnp.linalg.norm(other - exact) < 5 * close * jnp.linalg.norm(exact)
    program = str(jax.make_jaxpr(lambda v: model(v))(v[0].astype(dtype)))
    assert f"preferred_element_type={dtype}" in program
    assert "preferred_element_type=float32" in program


def test_axes_without_modes_are_refused(getkey):
    with pytest.raises(ValueError, match="the modes of each axis, got none"):
        FNO(1, 1, (), key=getkey())
    with pytest.raises(ValueError, match="of time and of each space axis, got \\(3,\\)"):
        SpaceTimeFNO(1, 1, (3,), key=getkey())


def test_space_time_fno_needs_points_for_its_time_modes(getkey):
    model = SpaceTimeFNO(1, 1, (4, 2, 2), hidden_channels=2, n_layers=1, key=getkey())
    with pytest.raises(ValueError, match="axis 0 has 5 points, but n_modes=4"):
        model(jnp.ones((1, 1, 4, 4)), 4)  # 4 points and a quarter more


def taylor_green_dataset(n_points, dt, n_times):
    times = dt * np.arange(n_times)
    field = jnp.stack(
        [taylor_green_vorticity((n_points,) * 2, 1.0, viscosity=0.05, time=float(t)) for t in times]
    )
    values = np.asarray(field).reshape(1, n_times, 1, n_points, n_points)
    return FieldDataset.from_array(values, dt=dt, domain_extent=1.0, channels=("vorticity",))


def test_evaluate_scores_a_solver_and_persistence_on_an_exact_solution():
    dataset = taylor_green_dataset(8, 0.02, 6)
    problem = NavierStokes2D((8, 8), viscosity=0.05)
    scores = evaluate(
        {"persistence": Persistence(), "ETDRK4": SolverForecaster(problem, ETDRK4(), 0.02)},
        dataset,
        2,
        3,
        starts=(0, 1),
    )
    persistence, solver = scores
    assert [score.method for score in scores] == ["persistence", "ETDRK4"]
    assert solver.relative_l2 < 1e-5 < persistence.relative_l2
    # Taylor-Green only decays: the error of persistence is known in closed form.
    rate = 8 * np.pi**2 * 0.05 * 0.02
    lead = np.arange(1, 4)
    np.testing.assert_allclose(persistence.error_curve[0], np.exp(rate * lead) - 1, rtol=1e-4)
    assert persistence.error_curve.shape == (2, 3)
    assert persistence.example.shape == (3, 1, 8, 8)
    row = solver.row()
    assert set(row) == {"method", "relative_l2", "relative_h1", "seconds"}
    assert row["seconds"] > 0


def test_evaluate_reports_a_forecast_that_blew_up():
    dataset = taylor_green_dataset(8, 0.02, 6)
    values = np.array(dataset.values) * 1e6
    rng = np.random.default_rng(43)
    wild = dataset.replace(values=(values * rng.normal(size=values.shape)).astype(np.float32))
    problem = NavierStokes2D((8, 8), viscosity=1e-6)
    (score,) = evaluate({"ETDRK4": SolverForecaster(problem, ETDRK4(), 1e4)}, wild, 1, 5)
    assert score.row()["relative_l2"] is None


def test_evaluate_refuses_windows_that_do_not_fit():
    with pytest.raises(ValueError, match="at least one forecaster, got none"):
        evaluate({}, taylor_green_dataset(4, 0.02, 3), 1, 2)
    with pytest.raises(ValueError, match="longer than the"):
        evaluate({"persistence": Persistence()}, taylor_green_dataset(4, 0.02, 3), 2, 2)
