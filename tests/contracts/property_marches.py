"""Table of calls: `sciml.problems`, `sciml.natural_gradient` and `sciml.neural_de`."""

from typing import Any

import diffrax
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import strategies as st

from sciml import natural_gradient as ng
from sciml import neural_de, problems

from .property_cases import add, close, numbers

_N = st.sampled_from((1, 4, 8))


def _has_shape(found: Any, shape: Any) -> None:
    assert np.shape(found) == tuple(shape), f"shape {np.shape(found)}, expected {tuple(shape)}"


def _solve(
    n_points: Any, viscosity: float, u0: Any, dt: float, n_steps: int, save_every: int
) -> Any:
    problem = problems.Burgers1D(n_points, viscosity=viscosity)
    return problems.solve(problem, u0, dt=dt, n_steps=n_steps, save_every=save_every, throw=False)


def _of_solve(found: Any, u0: Any, n_steps: int, save_every: int, **_: Any) -> None:
    u0 = np.asarray(u0, float)
    _has_shape(found.value, (n_steps // save_every + 1, *u0.shape))
    close(found.value[0], u0)
    close(np.mean(found.value, -1), np.broadcast_to(u0.mean(-1), found.value.shape[:-1]), rtol=1e-2)


@add("problems.solve", _solve, check=_of_solve, follows="u0", words=("u0",))
def _(draw: Any) -> dict:
    n = draw(st.sampled_from((1, 4, 9)))
    return {
        "n_points": (n,),
        "viscosity": 0.1,
        "u0": 0.1 * numbers(draw, 1, n),
        "dt": 0.01,
        "n_steps": 2 * draw(st.integers(1, 2)),
        "save_every": draw(st.integers(1, 2)),
    }


def _navier_stokes(
    n_points: Any, viscosity: float, drag: float, domain_extent: float, u0: Any, dt: float
) -> Any:
    problem = problems.NavierStokes2D(
        n_points, viscosity=viscosity, drag=drag, domain_extent=domain_extent
    )
    return problems.solve(problem, u0, dt=dt, n_steps=2, throw=False)


def _decays(found: Any, u0: Any, **_: Any) -> None:
    norms = np.linalg.norm(np.asarray(found.value, float).reshape(3, -1), axis=1)
    assert (np.diff(norms) <= 1e-3 * norms[0]).all(), f"enstrophy grew: {norms}"


@add("problems.NavierStokes2D", _navier_stokes, check=_decays, follows="u0")
def _(draw: Any) -> dict:
    n = (draw(st.sampled_from((4, 6))), draw(st.sampled_from((4, 5))))
    u0 = numbers(draw, 1, *n)
    return {
        "n_points": n,
        "viscosity": 1e-2,
        "drag": 0.0,
        "domain_extent": 1.0,
        "u0": u0 - u0.mean(),
        "dt": 0.01,
    }


def _operator(n_points: Any, domain_extent: Any, coefficient: Any, u: Any) -> Any:
    A = problems.diffusion_operator(n_points, domain_extent=domain_extent, coefficient=coefficient)
    return A.mv(jnp.asarray(u)), A.to_scipy()


def _of_operator(found: Any, n_points: Any, u: Any, **_: Any) -> None:
    product, matrix = found
    matrix = matrix.toarray()
    close(matrix, matrix.T, rtol=1e-5)
    close(np.asarray(product).reshape(-1), matrix @ np.asarray(u).reshape(-1), rtol=1e-4)
    assert np.linalg.eigvalsh(matrix.astype(float)).min() > 0


@add("problems.diffusion_operator", _operator, check=_of_operator)
def _(draw: Any) -> dict:
    n = (draw(st.sampled_from((1, 3, 4))), draw(st.sampled_from((2, 3))))
    u = numbers(draw, *n, dtype="float32")
    return {"n_points": n, "domain_extent": (1.0, 2.0), "coefficient": abs(u) + 0.5, "u": u}


def _generator(name: str, **options: Any) -> None:
    """Enter a function of ``(n_points, ..., key)`` that returns an array on the grid."""
    function = getattr(problems, name)

    def call(_seed: int, **arguments: Any) -> Any:
        return function(**arguments, key=jax.random.key(_seed))

    def check(found: Any, n_points: Any, **_: Any) -> None:
        shape = np.shape(found)
        assert shape[len(shape) - len(n_points) :] == tuple(n_points), f"shape {shape}"

    add(f"problems.{name}", call, check=check)(
        lambda draw: {
            "n_points": (draw(st.sampled_from((4, 5, 8))), 4),
            **options,
            "_seed": draw(st.integers(0, 9)),
        }
    )


_generator("gaussian_random_field", domain_extent=(1.0, 2.0), alpha=2.5, tau=7.0)
_generator("gaussian_sources", noise=0.1, width=0.1)
_generator("kolmogorov_vorticity", domain_extent=(1.0, 1.0), peak_wavenumber=4.0, max_speed=5.0)
_generator("mcwilliams_vorticity", domain_extent=(1.0, 1.0), peak_wavenumber=4.0, rms_speed=1.0)
_generator("random_checkerboard", n_tiles=2, contrast=100.0)
_generator("random_inclusions", n_inclusions=2, contrast=100.0)
_generator("random_obstacles", n_balls=1, n_boxes=1, smallest=0.04, largest=0.14)
_generator("moving_balls", n_steps=2, n_balls=1, radius=0.1, step_length=0.01)


def _plain(name: str, **options: Any) -> None:
    """Enter a function of ``(n_points, ...)`` without a key."""

    def check(found: Any, n_points: Any, **_: Any) -> None:
        shape = np.shape(found)
        assert shape[len(shape) - len(n_points) :] == tuple(n_points), f"shape {shape}"

    add(f"problems.{name}", getattr(problems, name), check=check)(
        lambda draw: {"n_points": (draw(st.sampled_from((4, 5, 8))), 4), **options}
    )


_plain("fno_forcing", domain_extent=(1.0, 1.0), amplitude=0.1, wavenumber=1)
_plain("kolmogorov_forcing", domain_extent=(1.0, 1.0), amplitude=0.1, wavenumber=1)
_plain("taylor_green_vorticity", domain_extent=(1.0, 1.0), amplitude=1.0, viscosity=0.1, time=0.1)
_plain("thin_baffles", n_baffles=1, gap=0.125)
_plain("rotating_bar", n_steps=2, turns=0.5, length=0.6, thickness=0.08)


@add(
    "problems.random_mdp",
    lambda n_states, n_actions, discount, _seed: (
        problems.random_mdp(
            n_states, n_actions, discount=discount, key=jax.random.key(_seed)
        ).values
    ),
    check=lambda found, n_states, **_: _has_shape(
        np.asarray(found).reshape(-1)[:n_states], (n_states,)
    ),
)
def _(draw: Any) -> dict:
    return {"n_states": draw(st.integers(2, 5)), "n_actions": 2, "discount": 0.9, "_seed": 1}


for _name, _field in (("graph_heat", "implicit"), ("pore_network", "pressure")):
    add(
        f"problems.{_name}",
        lambda n_nodes, _seed, name=_name, field=_field: getattr(
            getattr(problems, name)(n_nodes, key=jax.random.key(_seed)), field
        ),
        check=lambda found, n_nodes, **_: _has_shape(np.asarray(found).reshape(-1), (n_nodes,)),
    )(lambda draw: {"n_nodes": draw(st.sampled_from((12, 30))), "_seed": draw(st.integers(0, 3))})


@add(
    "problems.march_flow",
    lambda n_points, viscosity, dt, n_frames, substeps: problems.march_flow(
        problems.LidDrivenCavity(n_points, viscosity=viscosity),
        dt=dt,
        n_frames=n_frames,
        substeps=substeps,
        throw=False,
    ),
    check=lambda found, n_points, n_frames, **_: _has_shape(
        found.value, (n_frames + 1, 2, *n_points)
    ),
    words=("limit", "step"),
)
def _(draw: Any) -> dict:
    return {
        "n_points": (6, draw(st.sampled_from((5, 6)))),
        "viscosity": 0.05,
        "dt": 0.02,
        "n_frames": 2,
        "substeps": 2,
    }


def _particles(position: Any, spacing: float, dt: float, n_frames: int, substeps: int) -> Any:
    method = problems.MaterialPointMethod([problems.Water()], cell_size=1 / 8)
    state = method.state(position, spacing=spacing)
    return problems.march_particles(
        method, state, dt=dt, n_frames=n_frames, substeps=substeps, throw=False
    )


@add(
    "problems.march_particles",
    _particles,
    words=("limit", "particles"),
    check=lambda found, position, n_frames, **_: _has_shape(
        found.value, (n_frames + 1, *np.shape(position))
    ),
)
def _(draw: Any) -> dict:
    x = 0.3 + 0.4 * (abs(numbers(draw, draw(st.sampled_from((1, 4))), 2, dtype="float32")) % 1)
    return {"position": x, "spacing": 0.06, "dt": 0.01, "n_frames": 2, "substeps": 20}


def _of_quadrature(found: Any, n_points: int, dim: int, domain_extent: Any) -> None:
    x, w = found
    close(np.sum(w), np.prod(np.broadcast_to(domain_extent, dim)), rtol=1e-4)
    assert len(x) == len(w)


for _name, _check in (
    ("box_quadrature", _of_quadrature),
    ("box_boundary_quadrature", lambda found, **_: _has_shape(found[1], (len(found[0]),))),
):
    add(f"natural_gradient.{_name}", getattr(ng, _name), check=_check)(
        lambda draw: {
            "n_points": draw(st.integers(1, 4)),
            "dim": draw(st.integers(1, 2)),
            "domain_extent": draw(st.sampled_from((1.0, 2.5))),
        }
    )


def _wave(x: Any) -> Any:
    return jnp.sin(x[0]) * jnp.sum(x)


def _numeric(x: Any, axis: int) -> float:
    x = np.asarray(x, float)
    gradient = np.full(x.shape, np.sin(x[0]))
    gradient[0] += np.cos(x[0]) * x.sum()
    return gradient[axis]


@add(
    "natural_gradient.derivative",
    lambda x, axis: ng.derivative(_wave, axis)(x),
    check=lambda found, x, axis: close(found, _numeric(x, axis), rtol=1e-3),
    follows="x",
)
def _(draw: Any) -> dict:
    return {"x": numbers(draw, 2), "axis": draw(st.integers(0, 1))}


@add(
    "natural_gradient.gradient",
    lambda x: ng.gradient(_wave)(x),
    check=lambda found, x: close(found, [_numeric(x, a) for a in range(len(x))], rtol=1e-3),
    follows="x",
)
def _(draw: Any) -> dict:
    return {"x": numbers(draw, draw(st.integers(1, 3)))}


@add(
    "natural_gradient.laplacian",
    lambda x: ng.laplacian(_wave)(x),
    check=lambda found, x: close(
        found,
        2 * np.cos(np.asarray(x, float)[0])
        - np.sin(np.asarray(x, float)[0]) * np.sum(np.asarray(x, float)),
        rtol=1e-3,
    ),
    follows="x",
)
def _(draw: Any) -> dict:
    return {"x": numbers(draw, draw(st.integers(1, 3)))}


class _Waves(eqx.Module):
    c: jax.Array

    def __call__(self, x: Any) -> Any:
        k = jnp.arange(1.0, 3.0)
        return self.c @ jnp.concatenate([jnp.cos(k * x[0]), jnp.sin(k * x[0])])


def _march(_c: Any, n: int, t1: float, dt: float) -> Any:
    points = ng.CollocationPoints.grid(n, 1)
    return ng.march(
        lambda t, x, u: ng.laplacian(u)(x),
        _Waves(jnp.asarray(_c)),
        points,
        t1=t1,
        dt=dt,
        throw=False,
    )


def _of_march(found: Any, _c: Any, n: int, t1: float, dt: float) -> None:
    close(found.value.c, np.asarray(_c) * np.exp(-t1 * np.array([1.0, 4.0, 1.0, 4.0])), rtol=2e-2)


@add("natural_gradient.march", _march, check=_of_march, words=("float64", "network"))
def _(draw: Any) -> dict:
    return {"_c": numbers(draw, 4, dtype="float64"), "n": 16, "t1": 0.1, "dt": 0.05}


@add(
    "natural_gradient.fit_initial",
    lambda _c, n, _rtol, _seed: ng.fit_initial(
        _Waves(jnp.asarray(_c)),
        lambda x: jnp.sin(x[0]),
        ng.CollocationPoints.grid(n, 1),
        rtol=_rtol,
        max_steps=20,
        key=jax.random.key(_seed),
    ),
    check=lambda found, **_: close(found.value.c, [0, 0, 1, 0], rtol=1e-2),
    words=("float64", "network"),
)
def _(draw: Any) -> dict:
    return {"_c": numbers(draw, 4, dtype="float64"), "n": 16, "_rtol": 1e-4, "_seed": 1}


@add(
    "natural_gradient.roughness_index",
    lambda parameters, n_directions, n_points, length, _seed: (
        ng.roughness_index(
            lambda p: jnp.sum(p**2),
            parameters,
            key=jax.random.key(_seed),
            n_directions=n_directions,
            n_points=n_points,
            length=length,
            throw=False,
        ).index
    ),
    check=lambda found, **_: _has_shape(found, ()),
    words=("loss",),
)
def _(draw: Any) -> dict:
    return {
        "parameters": numbers(draw, 3, dtype="float32"),
        "n_directions": 3,
        "n_points": 5,
        "length": 1.0,
        "_seed": 1,
    }


def _field(t: Any, y: Any, args: Any) -> Any:
    return -y


def _neural_ode(y0: Any, t0: float, t1: float, rtol: float, atol: float, max_steps: int) -> Any:
    model = neural_de.NeuralODE(_field, t0=t0, t1=t1, rtol=rtol, atol=atol, max_steps=max_steps)
    return model(y0)[0]


@add(
    "neural_de.NeuralODE",
    _neural_ode,
    follows="y0",
    check=lambda found, y0, t0, t1, **_: close(
        found, np.asarray(y0, float) * np.exp(t0 - t1), rtol=1e-2
    ),
)
def _(draw: Any) -> dict:
    return {
        "y0": numbers(draw, draw(st.sampled_from((1, 3)))),
        "t0": 0.0,
        "t1": 1.0,
        "rtol": 1e-4,
        "atol": 1e-6,
        "max_steps": 256,
    }


def _regularized(_y0: Any, t0: float, t1: float) -> Any:
    solution, penalty = neural_de.regularized_solve(
        diffrax.ODETerm(_field),
        diffrax.Tsit5(),
        t0,
        t1,
        None,
        _y0,
        regularizers={"e": neural_de.ErrorEstimate()},
        stepsize_controller=diffrax.PIDController(rtol=1e-4, atol=1e-6),
    )
    return solution.ys[-1], penalty.total


@add(
    "neural_de.regularized_solve",
    _regularized,
    check=lambda found, _y0, t0, t1: close(
        found[0], np.asarray(_y0, float) * np.exp(t0 - t1), rtol=1e-2
    ),
)
def _(draw: Any) -> dict:
    return {"_y0": numbers(draw, 2), "t0": 0.0, "t1": 1.0}


def _sde(y0: Any, n_paths: int, t1: float, _seed: int) -> Any:
    model = neural_de.NeuralSDE(_field, lambda t, y, args: 0.1 * y, t1=t1)
    return model(y0, key=jax.random.key(_seed), n_paths=n_paths)[0]


@add(
    "neural_de.NeuralSDE",
    _sde,
    check=lambda found, y0, n_paths, **_: _has_shape(found, (n_paths, *np.shape(y0))),
)
def _(draw: Any) -> dict:
    return {"y0": numbers(draw, 2), "n_paths": draw(st.integers(1, 2)), "t1": 0.5, "_seed": 1}


def _encode(values: Any, mask: Any, ts: Any, _seed: int) -> Any:
    model = neural_de.LatentODE(1, n_latent=2, hidden_channels=3, key=jax.random.key(_seed))
    return model.encode(values, mask, ts)[0]


@add("neural_de.LatentODE.encode", _encode, check=lambda found, **_: _has_shape(found, (2,)))
def _(draw: Any) -> dict:
    n = draw(st.sampled_from((1, 4)))
    return {
        "values": numbers(draw, n, 1, dtype="float32"),
        "mask": np.ones((n, 1), bool),
        "ts": np.linspace(0, 1, n).astype("float32"),
        "_seed": 1,
    }


@add(
    "neural_de.steer_times",
    lambda ts, _seed: neural_de.steer_times(jax.random.key(_seed), ts),
    check=lambda found, ts, _seed: _rises(found, ts),
    follows="ts",
)
def _(draw: Any) -> dict:
    return {"ts": np.cumsum(abs(numbers(draw, draw(st.sampled_from((2, 5)))))), "_seed": 1}


def _rises(found: Any, ts: Any) -> None:
    _has_shape(found, np.shape(ts))
    assert (np.diff(np.asarray(found, float)) >= 0).all()


@add(
    "neural_de.steer_end_time",
    lambda t1, b, t0, _seed: neural_de.steer_end_time(jax.random.key(_seed), t1, b, t0=t0),
    check=lambda found, t1, b, t0, _seed: _between(found, t1 - b, t1 + b),
)
def _(draw: Any) -> dict:
    return {"t1": 1.0, "b": 0.3, "t0": 0.0, "_seed": 1}


def _between(found: Any, low: float, high: float) -> None:
    assert low - 1e-6 <= np.min(found)
    assert np.max(found) <= high + 1e-6


@add(
    "neural_de.exponential_decay",
    lambda start, end, n_steps, step: neural_de.exponential_decay(start, end, n_steps)(step),
    check=lambda found, start, end, **_: _between(found, min(start, end), max(start, end)),
)
def _(draw: Any) -> dict:
    return {"start": 2.0, "end": 0.5, "n_steps": 10, "step": draw(st.integers(0, 12))}


@add(
    "neural_de.TargetNFE",
    lambda budget, rate, weight, evaluations: neural_de.TargetNFE(budget, rate).update(
        weight, evaluations
    ),
    check=lambda found, **_: _between(found, 1e-6, 1e3),
)
def _(draw: Any) -> dict:
    return {"budget": 50.0, "rate": 0.05, "weight": 1.0, "evaluations": draw(st.integers(1, 99))}
