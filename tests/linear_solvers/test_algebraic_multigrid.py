"""Smoothed aggregation with learned scalars: always definite, and safe."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.io
import scipy.sparse
import scipy.sparse.linalg
import scipy.spatial

from sciml.linear_solvers import MultigridWeights
from sciml.linear_solvers._aspreconditioner import aspreconditioner
from sciml.linear_solvers._cg import cg
from sciml.linear_solvers._smoother import chebyshev_smooth

pyamg = pytest.importorskip("pyamg", reason="needs the extra `amg`")

from sciml.linear_solvers._algebraic_multigrid import (  # noqa: E402
    AlgebraicMultigridPreconditioner,
    _smooth,
    algebraic_weights,
)
from sciml.linear_solvers._fit_algebraic import fit_algebraic_preconditioner  # noqa: E402


def _graph(n, shift=0.01, seed=811):
    """Return the Laplacian of a graph of nearest neighbours, plus a shift."""
    rng = np.random.default_rng(seed)
    points = rng.random((n, 2))
    _, near = scipy.spatial.cKDTree(points).query(points, 6)
    entries = (rng.lognormal(size=5 * n), (np.repeat(np.arange(n), 5), near[:, 1:].ravel()))
    graph = scipy.sparse.csr_array(entries, shape=(n, n))
    graph = graph.maximum(graph.T)
    total = scipy.sparse.diags_array(graph.sum(axis=1) + shift)
    return (total - graph).tocsr()


def _gauge(n):
    return scipy.sparse.csr_array(pyamg.gallery.gauge_laplacian(n, beta=0.2).tocsr())


def _dense(M):
    return np.stack([M @ e for e in np.eye(M.shape[0], dtype=M.dtype)], axis=1)


def _random_weights(rng, n_levels, n_sweeps):
    raw = [jnp.asarray(row, jnp.float32) for row in 4 * rng.normal(size=(3, n_levels))]
    weights = MultigridWeights(n_levels, n_sweeps)
    for name, row in zip(("raw_lower", "raw_upper", "raw_scale"), raw, strict=True):
        object.__setattr__(weights, name, row)
    return weights


@pytest.mark.parametrize("make", [lambda: _graph(330), lambda: _gauge(15)])
def test_hermitian_and_definite_for_every_weight(make):
    matrix = make()
    rng = np.random.default_rng(23)
    base = AlgebraicMultigridPreconditioner(matrix, dtype=np.float64)
    assert len(base.levels) > 1
    for trial in range(12):
        M = base.with_weights(_random_weights(rng, 1 + trial % 3, 1 + trial % 4))
        dense = _dense(M)
        np.testing.assert_allclose(dense, dense.conj().T, atol=1e-12 * np.abs(dense).max())
        assert np.linalg.eigvalsh(dense).min() > 0
        x = rng.normal(size=matrix.shape[0])
        np.testing.assert_allclose(M @ x, dense @ x, atol=1e-11 * np.abs(dense @ x).max())


def test_polynomial_is_the_one_of_the_grid_cycle():
    matrix = _graph(140)
    M = AlgebraicMultigridPreconditioner(matrix, MultigridWeights(1, 3), dtype=np.float64)
    level = M.levels[0]
    lower, upper, _ = M._numbers[0]
    r = np.random.default_rng(4).normal(size=140)
    with jax.enable_x64(True):
        dense = jnp.asarray(level.matrix.toarray())
        expected = chebyshev_smooth(
            lambda v: dense @ v,
            jnp.asarray(level.inverse_scale),
            jnp.asarray(r),
            jnp.asarray(lower),
            jnp.asarray(upper),
            3,
        )
        rows = [np.asarray(v) for v in MultigridWeights(1, 3).at(0, jnp.dtype(jnp.float64))]
    np.testing.assert_allclose(_smooth(level, r, lower, upper, 3), expected, rtol=1e-11)
    np.testing.assert_allclose(M._numbers[0], rows, rtol=1e-6)


def test_single_precision_costs_no_iterations():
    matrix = _graph(3000, 1e-4)
    b = np.random.default_rng(61).normal(size=3000)
    counts = []
    for dtype in (np.float32, np.float64):
        M = AlgebraicMultigridPreconditioner(matrix, dtype=dtype)
        assert M.dtype == dtype
        assert (M @ b).dtype == np.float64
        for size in (1.0, 1e-60):
            x, info, record = cg(matrix, size * b, M=M, rtol=1e-9, full_output=True)
            assert info == 0
            assert np.linalg.norm(size * b - matrix @ x) <= 1e-9 * np.linalg.norm(size * b)
            counts.append(record["num_steps"])
    assert max(counts) - min(counts) <= 1
    assert max(counts) <= 25
    # The scale of the matrix does not matter either.
    M = AlgebraicMultigridPreconditioner(1e-50 * matrix)
    _, info, record = cg(1e-50 * matrix, b, M=M, rtol=1e-9, full_output=True)
    assert info == 0
    assert abs(record["num_steps"] - counts[0]) <= 1


def test_two_solvers_same_steps():
    matrix = _graph(700)
    b = np.random.default_rng(62).normal(size=700)
    M = AlgebraicMultigridPreconditioner(matrix, dtype=np.float64)
    for k in (1, 4, 9):
        theirs, _ = scipy.sparse.linalg.cg(matrix, b, M=M, rtol=0, atol=0, maxiter=k)
        ours, _ = cg(matrix, b, M=M, rtol=0, atol=0, maxiter=k)
        np.testing.assert_allclose(ours, theirs, rtol=1e-8, atol=1e-8 * np.abs(theirs).max())


def test_singular_neumann():
    matrix = _graph(900, shift=0.0, seed=813)
    n_parts, labels = scipy.sparse.csgraph.connected_components(matrix)
    b = np.random.default_rng(63).normal(size=900)
    for part in range(n_parts):
        b[labels == part] -= b[labels == part].mean()
    for dtype in (np.float32, np.float64):
        M = AlgebraicMultigridPreconditioner(matrix, dtype=dtype)
        x, info, record = cg(matrix, b, M=M, rtol=1e-8, full_output=True)
        assert info == 0
        assert record["num_steps"] <= 25
        assert np.linalg.norm(b - matrix @ x) <= 1e-8 * np.linalg.norm(b)
        np.testing.assert_allclose([x[labels == k].mean() for k in range(n_parts)], 0, atol=1e-8)


def test_entries_may_lie_far_apart():
    """Over fifty decades: in float32 they vanish, and their inverse overflows."""
    line = scipy.sparse.diags_array([-1.0, 2.1, -1.0], offsets=[-1, 0, 1], shape=(300, 300))
    half = scipy.sparse.diags_array(10.0 ** np.linspace(-25, 0, 300))
    matrix = (half @ line @ half).tocsr()
    r = half @ np.random.default_rng(66).normal(size=300)
    single, double = (
        AlgebraicMultigridPreconditioner((matrix + matrix.T) / 2, dtype=dtype) @ r
        for dtype in (np.float32, np.float64)
    )
    energy = np.sqrt(double @ (matrix @ double))
    difference = single - double
    assert np.sqrt(difference @ (matrix @ difference)) <= 1e-5 * energy
    # Rows that are passed through have ones, whatever the unit of the others.
    empty = scipy.sparse.block_diag([1e-80 * line, scipy.sparse.csr_array((1, 1))], format="csr")
    z = AlgebraicMultigridPreconditioner(empty) @ np.append(1e-80 * r, 0.0)
    expected = AlgebraicMultigridPreconditioner(line) @ r
    np.testing.assert_allclose(z[:-1], expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("case", ["diagonal", "empty rows", "one", "isolated", "dense"])
def test_odd_matrices(case):
    rng = np.random.default_rng(64)
    matrix = _graph(150)
    if case == "diagonal":  # nothing to aggregate, and too large to invert
        matrix = scipy.sparse.diags_array(rng.uniform(1, 2, 1500)).tocsr()
    elif case == "empty rows":
        matrix = matrix.tolil()
        matrix[[3, 80]] = 0
        matrix[:, [3, 80]] = 0
        matrix = matrix.tocsr()
    elif case == "one":
        matrix = scipy.sparse.csr_array([[3.0]])
    elif case == "isolated":
        matrix = scipy.sparse.block_diag([matrix, 5.0, 7.0], format="csr")
    elif case == "dense":
        factor = rng.normal(size=(120, 300))
        matrix = factor @ factor.T
    M = AlgebraicMultigridPreconditioner(matrix)
    x = rng.normal(size=matrix.shape[0])
    b = matrix @ x
    answer, info = cg(matrix, b, M=M, rtol=1e-7)
    assert info == 0
    assert np.linalg.norm(b - matrix @ answer) <= 1e-7 * np.linalg.norm(b)


def test_refusals(monkeypatch):
    matrix = _graph(50)
    with pytest.raises(ValueError, match="square"):
        AlgebraicMultigridPreconditioner(matrix[:, :20])
    with pytest.raises(ValueError, match="not positive definite"):
        AlgebraicMultigridPreconditioner(-matrix)
    with pytest.raises(ValueError, match="strength"):
        AlgebraicMultigridPreconditioner(matrix, strength=-1.0)
    with pytest.raises(TypeError, match="dtype"):
        AlgebraicMultigridPreconditioner(matrix, dtype=np.int32)
    key = jax.random.key(3)
    with pytest.raises(ValueError, match="validation"):
        fit_algebraic_preconditioner([matrix], key=key)
    with pytest.raises(ValueError, match="entries for 2 matrices"):
        fit_algebraic_preconditioner([matrix, matrix], [np.ones(50)], key=key)
    with pytest.raises(ValueError, match="right-hand side has shape"):
        fit_algebraic_preconditioner([matrix, matrix], [np.ones(50), np.ones(3)], key=key)
    for rhs, words in (
        (np.zeros(50), "is zero"),
        (np.full(50, 1.0 + 2.0j), "is complex"),
        (np.full(50, np.nan), "non-finite"),
    ):
        with pytest.raises(ValueError, match=words):
            fit_algebraic_preconditioner([matrix, matrix], 2 * [rhs], key=key)


def test_training_helps_and_is_reproducible():
    matrices = [
        scipy.sparse.csr_array(pyamg.gallery.linear_elasticity((12, 12 + k))[0]) for k in range(3)
    ]
    runs = [
        fit_algebraic_preconditioner(matrices, key=jax.random.key(71), max_evaluations=60)
        for _ in range(2)
    ]
    first, second = (run.value for run in runs)
    np.testing.assert_array_equal(first.raw_lower, second.raw_lower)
    stats = runs[0].stats
    assert stats["iterations_after"] < stats["iterations_before"]
    # One evaluation of a start that is hard to beat: whatever comes out, it is no worse.
    run = fit_algebraic_preconditioner(
        matrices, key=jax.random.key(72), weights=first, max_evaluations=1
    )
    assert run.stats["iterations_after"] <= run.stats["iterations_before"]


def test_training_ignores_the_unit_of_a_right_hand_side():
    b = np.random.default_rng(73).normal(size=120)
    losses = [
        fit_algebraic_preconditioner(
            2 * [_graph(120)], 2 * [size * b], key=jax.random.key(73), max_evaluations=2
        ).stats["final_loss"]
        for size in (1.0, 2.0**-700)
    ]
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


def test_weights_that_ship_beat_the_classical_ones():
    classical, learned = [], []
    for seed in (91, 92, 93):
        matrix = _graph(2500, 1e-3, seed)
        b = np.random.default_rng(seed).normal(size=2500)
        for weights, counts in ((MultigridWeights(), classical), (algebraic_weights(), learned)):
            M = AlgebraicMultigridPreconditioner(matrix, weights)
            counts.append(cg(matrix, b, M=M, rtol=1e-8, full_output=True)[2]["num_steps"])
    assert sum(learned) < sum(classical)
    assert all(mine <= theirs + 1 for mine, theirs in zip(learned, classical, strict=True))


def _mesh_matrix(kind):
    points, elements = pyamg.gallery.regular_triangle_mesh(12, 9)
    if kind == "elasticity":
        return pyamg.gallery.linear_elasticity_p1(points, elements)[0]
    mesh = pyamg.gallery.fem.Mesh(points, elements)
    return pyamg.gallery.fem.gradgradform(mesh)[0]


def _stencil(theta, kind):
    stencil = pyamg.gallery.diffusion_stencil_2d(epsilon=0.01, theta=theta, type=kind)
    return pyamg.gallery.stencil_grid(stencil, (7, 6))


GALLERY = {
    "poisson 1-D": lambda: pyamg.gallery.poisson((16,)),
    "poisson 2-D": lambda: pyamg.gallery.poisson((7, 6)),
    "poisson 3-D": lambda: pyamg.gallery.poisson((4, 5, 4)),
    "poisson FE": lambda: pyamg.gallery.poisson((7, 6), type="FE"),
    "gauge_laplacian": lambda: pyamg.gallery.gauge_laplacian(16),
    "anisotropic FE": lambda: _stencil(0.0, "FE"),
    "rotated FE": lambda: _stencil(0.7, "FE"),
    "linear_elasticity": lambda: pyamg.gallery.linear_elasticity((10, 12))[0],
    "linear_elasticity_p1": lambda: _mesh_matrix("elasticity"),
    "gradgradform": lambda: _mesh_matrix("poisson"),
    "diffusion 3-D": lambda: pyamg.gallery.stencil_grid(
        pyamg.gallery.diffusion.diffusion_stencil_3d(0.1, 0.1), (4, 5, 4)
    ),
    **{
        name: lambda name=name: pyamg.gallery.load_example(name)["A"]
        for name in (
            "airfoil",
            "bar",
            "knot",
            "local_disc_galerkin_diffusion",
            "unit_cube",
            "unit_square",
        )
    },
}


@pytest.mark.parametrize("name", GALLERY)
def test_gallery_is_solved(name):
    matrix = GALLERY[name]()
    x = np.random.default_rng(81).normal(size=matrix.shape[0]).astype(matrix.dtype)
    b = matrix @ x
    answer, info = cg(matrix, b, M=aspreconditioner(matrix), rtol=1e-7)
    assert info == 0
    assert np.linalg.norm(b - matrix @ answer) <= 1e-7 * np.linalg.norm(b)


@pytest.mark.parametrize(
    ("name", "make", "words"),
    [
        ("recirc_flow", lambda: pyamg.gallery.load_example("recirc_flow")["A"], "not symmetric"),
        ("helmholtz_2D", lambda: pyamg.gallery.load_example("helmholtz_2D")["A"], "not Hermitian"),
        ("advection_2d", lambda: pyamg.gallery.advection_2d((9, 9))[0], "not symmetric"),
        ("sprand", lambda: pyamg.gallery.sprand(30, 30, 0.1), "not symmetric"),
    ],
)
def test_gallery_is_refused(name, make, words):
    with pytest.raises(ValueError, match=words):
        aspreconditioner(make())


def test_matrix_market(tmp_path):
    matrix = _graph(300)
    path = tmp_path / "graph.mtx"
    scipy.io.mmwrite(path, matrix, symmetry="symmetric")
    read = scipy.io.mmread(path, spmatrix=False)
    b = np.ones(300)
    M = aspreconditioner(read)
    assert "learned" in M.kind
    x, info = cg(read, b, M=M, rtol=1e-9)
    assert info == 0
    assert np.linalg.norm(b - matrix @ x) <= 1e-9 * np.linalg.norm(b)
    with pytest.raises(ValueError, match="not positive definite"):
        aspreconditioner((matrix - 100.0 * scipy.sparse.eye_array(300)).tocsr())


def test_an_indefinite_matrix_whose_entries_do_not_show_it():
    """Its diagonal is positive and it is symmetric: the set-up or the solver finds out."""
    line = scipy.sparse.diags_array([-1.0, 2.0, -1.0], offsets=[-1, 0, 1], shape=(300, 300))
    indefinite = (line - 0.5 * scipy.sparse.eye_array(300)).tocsr()
    assert indefinite.diagonal().min() > 0
    with pytest.raises(ValueError, match="coarse grid"):
        aspreconditioner(indefinite)
    x, info = cg(indefinite, np.ones(300), M=np.diag(1 / indefinite.diagonal()))
    assert info == -1
    assert np.isfinite(x).all()
