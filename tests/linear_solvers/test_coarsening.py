"""Which axes are coarsened: all where couplings are alike, the strong ones first otherwise."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from sciml.linear_solvers._coarsening import N_DIRECT, axis_strengths, coarsening_plan
from sciml.linear_solvers._interpolation import coarse_points
from sciml.numerics import StencilOperator
from sciml.problems import Neumann, diffusion_operator

BOTH, FIRST, LAST = (True, True), (True, False), (False, True)
NOT_PERIODIC = (False, False)


def _sizes(n_points, plan):
    sizes = [tuple(n_points)]
    for level in plan:
        sizes.append(coarse_points(sizes[-1], level))
    return sizes


@pytest.mark.parametrize("n_points", [(64, 64), (257, 100), (40, 40, 40), (10_000,), (1, 3000)])
def test_isotropic_grids_are_coarsened_along_all_long_axes(n_points):
    plan = coarsening_plan(n_points, (False,) * len(n_points), (1.0,) * len(n_points))
    sizes = _sizes(n_points, plan)
    for level, size in zip(plan, sizes, strict=False):
        assert level == tuple(n >= 3 for n in size)
    assert math.prod(sizes[-1]) <= N_DIRECT < math.prod(sizes[-2])


def test_known_plans():
    assert coarsening_plan((64, 64), NOT_PERIODIC, (1.0, 1.0)) == (BOTH, BOTH)
    # 1:100; coarsening the strong axis weakens it by 2 and strengthens the other by 2, so three
    # times brings the ratio to 100 / 64 and the two go on together.
    plan = coarsening_plan((256, 256), NOT_PERIODIC, (1.0, 100.0))
    assert plan == (LAST, LAST, LAST, BOTH, BOTH)
    assert coarsening_plan((256, 256), NOT_PERIODIC, (100.0, 1.0)) == (
        FIRST,
        FIRST,
        FIRST,
        BOTH,
        BOTH,
    )
    # A quarter is strong enough; less is not.
    assert coarsening_plan((40, 40), NOT_PERIODIC, (0.25, 1.0))[0] == BOTH
    assert coarsening_plan((40, 40), NOT_PERIODIC, (0.24, 1.0))[0] == LAST


@pytest.mark.parametrize("n_points", [(1,), (512,), (3, 3), (22, 23), (8, 8, 8)])
def test_small_grids_are_inverted_at_once(n_points):
    assert coarsening_plan(n_points, (False,) * len(n_points), (1.0,) * len(n_points)) == ()


def test_periodic_axes_keep_three_points():
    for n_points in ((1000,), (5, 300), (6, 300), (40, 41, 42)):
        periodic = (True,) * len(n_points)
        plan = coarsening_plan(n_points, periodic, (1.0,) * len(n_points))
        for size in _sizes(n_points, plan):
            assert min(size) >= 3
    assert coarsening_plan((5, 300), (True, False), (1.0, 1.0))[0] == LAST
    assert coarsening_plan((5, 300), (False, False), (1.0, 1.0))[0] == BOTH
    # Nothing can be coarsened: the direct solve is larger than usual.
    assert coarsening_plan((5,) * 4, (True,) * 4, (1.0,) * 4) == ()


@pytest.mark.parametrize("strengths", [(np.nan, np.nan), (np.inf, 1.0), (np.nan, 0.0), (0.0, 0.0)])
def test_strengths_without_meaning_end_in_a_plan(strengths):
    """The solver reports an operator with NaN in it; the plan must not run for ever."""
    assert coarsening_plan((64, 64), NOT_PERIODIC, strengths) == (BOTH, BOTH)


def test_short_strong_axis_does_not_hold_up_the_others():
    plan = coarsening_plan((2, 2000), NOT_PERIODIC, (1e6, 1.0))
    assert plan == (LAST, LAST, LAST)


def test_strengths_are_mean_couplings():
    operator = diffusion_operator((10, 20), axis_weights=(3.0, 1.0), boundary=Neumann())
    across, along = axis_strengths(operator)
    # h^-2 is 100 and 400; the last cell along an axis has no coupling ahead.
    np.testing.assert_allclose([across, along], [3 * 100 * 9 / 10, 400 * 19 / 20], rtol=1e-6)


def test_diagonal_couplings_count_for_both_axes():
    couplings = jnp.full((1, 4, 4), -2.0)
    operator = StencilOperator(jnp.full((4, 4), 9.0), couplings, ((1, -1),), (True, True))
    assert axis_strengths(operator) == (1.0, 1.0)
