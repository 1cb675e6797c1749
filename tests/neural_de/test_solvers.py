"""Every kind of solver in the wrapper: the same solution, the frequency, the exact count."""

import functools

import diffrax
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from sciml.neural_de import (
    ErrorEstimate,
    LocalRegularization,
    Reduction,
    StepWeight,
    StiffnessEstimate,
    Weighting,
    local_regularized_solve,
    nfe,
    regularized_solve,
)

FREQUENCY = 3.0
REGULARIZERS = {
    "error": ErrorEstimate(),
    "stiffness": StiffnessEstimate(StepWeight.ONE, Reduction.MAX),
}


def rotation(t, y, args):
    return FREQUENCY * jnp.stack([y[1], -y[0]])


CALLS = []


def counted(t, y, args):
    """Return the rotation, and note that it was evaluated."""
    jax.debug.callback(lambda: CALLS.append(1))
    return rotation(t, y, args)


def noisy():
    """Return a rotation with small additive noise."""
    path = diffrax.VirtualBrownianTree(
        0.0, 1.0, 1e-3, shape=(2,), key=jax.random.key(3), levy_area=diffrax.SpaceTimeLevyArea
    )
    noise = diffrax.ControlTerm(
        lambda t, y, args: lx.DiagonalLinearOperator(jnp.full_like(y, 0.1)), path
    )
    return diffrax.MultiTerm(diffrax.ODETerm(rotation), noise)


def split():
    """Return half a rotation explicitly, half of it implicitly."""
    half = diffrax.ODETerm(lambda t, y, args: rotation(t, y, args) / 2)
    return diffrax.MultiTerm(half, half)


# Solver, terms, tolerance, and how far the stiffness may be off: implicit solvers solve their
# stages to the tolerance only.
CASES = {
    "Tsit5": (diffrax.Tsit5(), None, 1e-6, 1e-6),
    "Dopri5": (diffrax.Dopri5(), None, 1e-6, 1e-6),
    "Dopri8": (diffrax.Dopri8(), None, 1e-6, 1e-6),
    "Heun": (diffrax.Heun(), None, 1e-4, 1e-6),
    "Kvaerno5": (diffrax.Kvaerno5(), None, 1e-4, 0.5),
    "KenCarp4": (diffrax.KenCarp4(), split, 1e-4, 1e-6),
    "half of implicit Euler": (diffrax.HalfSolver(diffrax.ImplicitEuler()), None, 1e-3, 1e-6),
    "half of Euler": (diffrax.HalfSolver(diffrax.Euler()), None, 1e-3, 1e-6),
    "SPaRK": (diffrax.SPaRK(), noisy, 1e-2, 1e-6),
}
EXPLICIT = ("Tsit5", "Dopri5", "Dopri8", "Heun")
# diffrax alone cannot solve with half of an implicit solver. To the wrapper these others are what
# Heun is, but for the stages that stiffness takes (test_regularized_solve.py has Tsit5 bitwise); so
# is ShARK what SPaRK is.
WITHOUT_THEIRS = ("half of implicit Euler", "Tsit5", "Dopri5", "Dopri8")


Y0 = (1.0, 0.5)


def problem(name, end, dt0, y0):
    make_terms = CASES[name][1]
    field = counted if name in EXPLICIT else rotation
    terms = diffrax.ODETerm(field) if make_terms is None else make_terms()
    return (terms, CASES[name][0], 0.0, end, dt0, y0)


def options(tolerance):
    controller = diffrax.PIDController(rtol=tolerance, atol=tolerance)
    steps = diffrax.SaveAt(steps=True)
    return {"stepsize_controller": controller, "max_steps": 256, "saveat": steps}


@functools.cache
def regularized(name):
    """Return a compiled solve; the two tests below share it."""

    @jax.jit
    def run(tolerance, *where):
        return regularized_solve(
            *problem(name, *where), regularizers=REGULARIZERS, **options(tolerance)
        )

    return run


@pytest.mark.parametrize("name", CASES)
def test_any_solver_gives_its_own_solution_the_frequency_and_its_count(x64, name):
    solver, _, tolerance, slack = CASES[name]
    where = (tolerance, 1.0, 0.1, jnp.asarray(Y0))
    CALLS.clear()
    ours, penalty = jax.block_until_ready(regularized(name)(*where))
    jax.effects_barrier()
    if name in EXPLICIT:
        # Without two stages at one abscissa there is a product with the Jacobian in each step.
        products = int(penalty.num_steps) if name == "Heun" else 0
        assert int(penalty.nfe) == int(nfe(solver, ours.stats)) == len(CALLS) - products
    else:
        assert penalty.nfe is None
    assert int(penalty.num_steps) > 1
    if name not in WITHOUT_THEIRS:
        theirs = jax.jit(
            lambda tolerance, *where: diffrax.diffeqsolve(
                *problem(name, *where), **options(tolerance)
            )
        )(*where)
        # Bitwise, but for a rounding of the noise: the compiler may fuse it into either product.
        is_noisy = CASES[name][1] is noisy
        saved = np.isfinite(theirs.ys)
        np.testing.assert_array_equal(np.isfinite(ours.ys), saved)
        np.testing.assert_array_max_ulp(ours.ys[saved], theirs.ys[saved], 8 if is_noisy else 0)
    assert 0 < penalty.values["error"] < 1.0
    np.testing.assert_allclose(penalty.values["stiffness"], FREQUENCY, rtol=slack)


@pytest.mark.parametrize("name", ["Kvaerno5", "SPaRK"])
def test_the_extra_step_is_the_solvers_own(x64, name):
    # With a single step there is only one to draw: implicit stages and noise must be the same.
    where = (1.0, 0.1, 0.1, jnp.asarray(Y0))
    solution, whole = regularized(name)(*where)
    assert solution.stats["num_steps"] == 1

    @jax.jit
    def extra(tolerance, *where):
        local = LocalRegularization(weighting=Weighting.PAPER)
        return local_regularized_solve(
            *problem(name, *where), key=jax.random.key(6), local=local, **options(tolerance)
        )[1]

    assert whole.values["error"] > 0
    np.testing.assert_allclose(extra(*where).total, whole.values["error"], rtol=1e-10)
