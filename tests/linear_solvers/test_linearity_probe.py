import numpy as np
import pytest

from sciml.linear_solvers._linearity_probe import linearity_complaint, linearity_defects

F64, F32 = np.dtype(np.float64), np.dtype(np.float32)
ROOT = np.random.default_rng(5).standard_normal((12, 12))
SYMMETRIC = ROOT @ ROOT.T


def test_a_symmetric_matrix_passes():
    for dtype in (F64, F32, np.dtype(complex)):
        assert linearity_complaint(lambda r: SYMMETRIC.astype(r.dtype) @ r, 12, dtype) is None
    assert max(linearity_defects(lambda r: SYMMETRIC @ r, 12, F64)) < 1e-13


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_what_is_wrong_is_named(scale):
    tanh = linearity_complaint(lambda r: scale * np.tanh(r), 12, F64)
    assert tanh is not None
    assert "not linear" in tanh
    constant = linearity_complaint(lambda r: scale * (r + 1), 12, F64)
    assert constant is not None
    assert "not linear" in constant
    skew = linearity_complaint(lambda r: scale * ROOT @ r, 12, F64)
    assert skew is not None
    assert "not symmetric" in skew


def test_a_float32_preconditioner_in_a_float64_solve():
    single = lambda r: (SYMMETRIC.astype(F32) @ r.astype(F32)).astype(F64)  # noqa: E731
    assert linearity_complaint(single, 12, F64, precision=F32) is None
    assert linearity_complaint(single, 12, F64) is not None


def test_zero_and_non_finite_maps_are_for_the_solve_to_report():
    assert linearity_complaint(lambda r: 0 * r, 12, F64) is None
    assert linearity_complaint(lambda r: np.nan * r, 12, F64) is None
