"""``sciml solve``: matrices and right-hand sides from files, the table, and bad input."""

import gzip
import re
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import scipy.sparse

from sciml.cli._solve_job import _relative_residual

# Nothing that needs the multigrid cycle, which takes seconds to compile, nor PyAMG.
_CLASSICAL = ("--preconditioner", "jacobi")


def _matrix(n: int = 7):
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(n, n))
    order = np.random.default_rng(391).permutation(n * n)
    return scipy.sparse.kronsum(line, line).tocsr()[order][:, order]


@pytest.fixture
def mtx() -> str:
    scipy.io.mmwrite("A.mtx", _matrix())
    return "A.mtx"


def _line(n_words: int, out: str) -> list[str]:
    return out.splitlines()[n_words].split()


def test_solves_and_writes(sciml, mtx):
    b = np.random.default_rng(81).normal(size=49)
    np.save("b.npy", b)
    outcome = sciml("solve", mtx, "b.npy", "--out", "x.npy", "--rtol", "1e-9", *_CLASSICAL)
    assert (outcome.status, outcome.err) == (0, "")
    words = _line(2, outcome.out)
    assert words[:3] == ["49", str(_matrix().nnz), "Jacobi"]
    assert words[-1] == "converged"
    residual = b - _matrix() @ np.load("x.npy")
    assert np.linalg.norm(residual) <= 1e-9 * np.linalg.norm(b)
    assert float(words[-2]) == pytest.approx(np.linalg.norm(residual) / np.linalg.norm(b), rel=0.01)


@pytest.mark.parametrize("preconditioner", ["none", "jacobi", "gauss-seidel"])
def test_ones_without_a_file(preconditioner, sciml, tmp_path):
    scipy.sparse.save_npz("A.npz", _matrix())
    outcome = sciml(
        "solve", "A.npz", "--preconditioner", preconditioner, "--out", tmp_path / "x.npy"
    )
    assert outcome.status == 0
    np.testing.assert_allclose(_matrix() @ np.load("x.npy"), 1, atol=1e-5)


def test_auto_finds_the_grid(sciml):
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(11, 11))
    scipy.sparse.save_npz("A.npz", scipy.sparse.kronsum(line, line).tocsr())
    outcome = sciml("solve", "A.npz", "--rtol", "1e-9")
    assert outcome.status == 0
    assert "learned multigrid" in outcome.out
    assert outcome.out.splitlines()[-1].endswith("converged")


def test_several_columns(sciml, mtx):
    b = np.random.default_rng(82).normal(size=(49, 3))
    scipy.io.mmwrite("b.mtx", b)
    outcome = sciml("solve", mtx, "b.mtx", "--out", "x.npy", *_CLASSICAL)
    assert outcome.status == 0
    assert np.load("x.npy").shape == (49, 3)


def test_the_residual_is_told_in_any_unit():
    """Squares of the entries would leave the range."""
    matrix, b = np.diag([2.0, 4.0]), np.array([1.0, 1.0])
    for unit in (1e-200, 1.0, 1e200):
        told = _relative_residual(matrix, unit * np.array([0.5, 0.0]), unit * b)
        assert told == pytest.approx(0.5**0.5)


def test_symmetric_storage_integers_and_gzip(sciml):
    matrix = _matrix().astype(int)
    scipy.io.mmwrite("A.mtx", scipy.sparse.coo_array(matrix), symmetry="symmetric", field="integer")
    Path("A.mtx.gz").write_bytes(gzip.compress(Path("A.mtx").read_bytes()))
    assert sciml("solve", "A.mtx.gz", *_CLASSICAL, "--out", "x.npy").status == 0
    np.testing.assert_allclose(_matrix() @ np.load("x.npy"), 1, atol=1e-5)


def test_not_converged_has_status_1_and_writes_nothing(sciml, mtx):
    outcome = sciml("solve", mtx, "--maxiter", "2", "--out", "x.npy", *_CLASSICAL)
    assert outcome.status == 1
    assert "no solution" in outcome.error
    assert "failed (2)" in outcome.out
    assert not Path("x.npy").exists()


def test_overwrite(sciml, mtx):
    Path("x.npy").write_text("mine")
    assert sciml("solve", mtx, "--out", "x.npy", "--overwrite", *_CLASSICAL).status == 0
    assert np.load("x.npy").shape == (49,)


def _mm(text: str):
    def make(path: Path) -> Path:
        path = path / "A.mtx"
        path.write_bytes(text.encode("latin1"))
        return path

    return make


def _npz(**arrays):
    def make(path: Path) -> Path:
        np.savez(path / "A.npz", **arrays)
        return path / "A.npz"

    return make


def _pickled(path: Path) -> Path:
    np.savez(path / "A.npz", allow_pickle=True, format=np.array([{"a": 1}], dtype=object))
    return path / "A.npz"


def _truncated_npz(path: Path) -> Path:
    scipy.sparse.save_npz(path / "A.npz", _matrix())
    (path / "A.npz").write_bytes((path / "A.npz").read_bytes()[:400])
    return path / "A.npz"


_HEAD = "%%MatrixMarket matrix coordinate real general\n"
MALFORMED = {
    "missing": (lambda p: p / "no.mtx", "no such file"),
    "folder": (lambda p: p, "folder"),
    "other suffix": (lambda p: Path(__file__), ".mtx"),
    "empty": (_mm(""), "banner"),
    "html": (_mm("<!DOCTYPE html><html>"), "A.mtx is not a Matrix Market file"),
    "binary": (_mm("\x00\xff\x00"), "A.mtx is not a Matrix Market file"),
    "truncated": (_mm(_HEAD + "3 3 2\n1 1 2.0\n"), "Truncated"),
    "index out of bounds": (_mm(_HEAD + "2 2 1\n5 1 2.0\n"), "out of bounds"),
    "no number": (_mm(_HEAD + "2 2 1\n1 1 abc\n"), "Line 3"),
    "more entries than memory": (_mm(_HEAD + "2 2 999999999999999\n1 1 1\n"), "A.mtx"),
    "more rows than memory": (_mm(_HEAD + "99999999999 99999999999 1\n1 1 1\n"), "rows"),
    "nearly all rows empty": (_mm(_HEAD + "2000000000 2000000000 1\n1 1 1\n"), "2000000000 rows"),
    # SciPy's parser crashes on these three.
    "zero byte": (_mm(_HEAD + "2 2 2\n1 1 1\x00\n2 2 1\n"), "zero bytes"),
    "cut in a number": (_mm(_HEAD + "2 2 2\n1 1 1\n2 2 1.5e-"), "in the middle of a number"),
    "junk at the end": (_mm(_HEAD + "2 2 2\n1 1 1\n2 2 x\xf3$"), "A.mtx is not a Matrix Market"),
    "column beyond the end": (
        _npz(
            format=np.array(b"csr"),
            shape=np.array([2, 2]),
            data=np.ones(2),
            indices=np.array([0, 10**9], np.int32),
            indptr=np.array([0, 1, 2], np.int32),
        ),
        "A.npz is not a file of scipy.sparse.save_npz",
    ),
    "long shape": (
        _npz(format=np.array(b"csr"), shape=np.zeros(10**6, int)),
        "`shape` is not that of a matrix",
    ),
    "rectangular": (_mm(_HEAD + "2 3 1\n1 1 1\n"), "square"),
    "not symmetric": (_mm(_HEAD + "2 2 3\n1 1 1\n2 2 1\n1 2 0.5\n"), "not symmetric"),
    "negative": (_mm(_HEAD + "2 2 2\n1 1 -1\n2 2 1\n"), "positive definite"),
    "NaN": (_mm(_HEAD + "1 1 1\n1 1 nan\n"), "finite"),
    "pickle": (_pickled, "A.npz is not a file of scipy.sparse.save_npz"),
    "foreign npz": (_npz(u=np.ones(3)), "A.npz is not a file of scipy.sparse.save_npz"),
    "truncated npz": (_truncated_npz, "damaged"),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_matrix(case, sciml, tmp_path):
    make, words = MALFORMED[case]
    outcome = sciml("solve", make(tmp_path), "--out", "x.npy", *_CLASSICAL)
    assert outcome.status == 2
    assert words in outcome.error
    assert not Path("x.npy").exists()


def _object_array(path: Path) -> Path:
    np.save(path, np.array([{}] * 49, dtype=object), allow_pickle=True)
    return path


def _save(value):
    def make(path: Path) -> Path:
        np.save(path, value)
        return path

    return make


def _longer(path: Path) -> Path:
    np.save(path, np.ones(49))
    path.write_bytes(path.read_bytes() + b"x" * 8)
    return path


def _text(path: Path) -> Path:
    path.write_text("1 2 3")
    return path


RHS = {
    "missing": (lambda p: p, "no such file"),
    "wrong length": (_save(np.ones(48)), "(48,)"),
    "three axes": (_save(np.ones((49, 1, 1))), "(49, 1, 1)"),
    "no columns": (_save(np.ones((49, 0))), "(49, 0)"),
    "NaN": (_save(np.full(49, np.nan)), "finite"),
    "strings": (_save(np.array(["a"] * 49)), "no numbers"),
    "pickle": (_object_array, "not a .npy file"),
    "text": (_text, "not a .npy file"),
    "longer than it says": (_longer, "bytes follow"),
}


@pytest.mark.parametrize("case", RHS)
def test_malformed_rhs(case, sciml, mtx, tmp_path):
    make, words = RHS[case]
    outcome = sciml("solve", mtx, make(tmp_path / "b.npy"), *_CLASSICAL)
    assert outcome.status == 2
    assert words in outcome.error


ARGUMENTS = {
    "negative rtol": (("--rtol", "-1"), "--rtol"),
    "NaN atol": (("--atol", "nan"), "--atol"),
    "negative maxiter": (("--maxiter", "-1"), "--maxiter"),
    "points without auto": (("--n-points", "7", "7", *_CLASSICAL), "--n-points"),
    "points that do not fit": (("--n-points", "7", "8"), "56 unknowns"),
    "points that are no grid": (("--n-points", "7", "7"), "neighbours"),
    "zero points": (("--n-points", "0", "7"), "--n-points"),
    "other suffix": (("--out", "x.csv"), ".npy"),
    "no such folder": (("--out", "no/x.npy"), "does not exist"),
    "taken": (("--out", "b.npy"), "--overwrite"),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_bad_arguments(case, sciml, mtx):
    Path("b.npy").write_text("mine")
    words, expected = ARGUMENTS[case]
    outcome = sciml("solve", mtx, *words)
    assert outcome.status == 2
    assert expected in outcome.error
    assert Path("b.npy").read_text() == "mine"


def test_each_failure_says_what_happened(sciml, mtx):
    outcome = sciml("solve", mtx, "--rtol", "1e-17", *_CLASSICAL)
    assert (outcome.status, "failed (-3)" in outcome.out) == (1, True)
    assert "larger --rtol" in outcome.error
    outcome = sciml("solve", mtx, "--rtol", "0", *_CLASSICAL)
    assert outcome.status == 1
    assert "with --rtol 0 and --atol 0 no residual is small enough" in outcome.error
    assert re.search(r"is \d\.\de-1[56]\. Give --rtol", outcome.error)
    # Each minor of two rows is positive.
    indefinite = [[1, 0.9, -0.9], [0.9, 1, 0.9], [-0.9, 0.9, 1]]
    scipy.io.mmwrite("B.mtx", scipy.sparse.csr_array(indefinite))
    outcome = sciml("solve", "B.mtx", *_CLASSICAL)
    assert (outcome.status, "failed (-1)" in outcome.out) == (1, True)
    assert "not positive definite" in outcome.error
