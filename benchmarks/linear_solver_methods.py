"""The methods that `linear_solvers.py` compares: one adapter each, ours and the peers'.

An adapter has ``setup(system)``, timed on its own, and ``solve(state, system, rtol)``, which
returns the answer on the active cells (or on the grid) and the number of iterations. A peer that
is not installed says so in ``missing``.
"""

import functools
import importlib
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse.linalg

import sciml
from sciml.linear_solvers import (
    MultigridPreconditioner,
    MultigridWeights,
    aspreconditioner,
    cg,
    conjugate_directions,
    conjugate_gradient,
)
from sciml.linear_solvers._multigrid_weights import trained_weights

MOST_STEPS = 20000


class System:
    """One matrix and right-hand side in the forms that the methods take.

    ``assemble`` makes the operator from the mask anew; ours pay for it in a sequence, while the
    peers get their sparse matrix for nothing.
    """

    def __init__(self, problem, assemble=None):
        self.problem = problem
        self.operator = problem.operator
        self.assemble = assemble
        self.b = problem.right_hand_side
        self.active = np.asarray(self.operator.active)
        csr = problem.operator.to_scipy(active_only=True)
        # 32-bit indices, as all peers want them; 0-based rows sorted.
        csr.sort_indices()
        self.matrix = scipy.sparse.csr_matrix(
            (csr.data, csr.indices.astype(np.int32), csr.indptr.astype(np.int32)), csr.shape
        )
        self.vector = np.asarray(self.b)[self.active]
        # With empty rows for cells without fluid, as our door takes it.
        self.whole_matrix = problem.operator.to_scipy()
        self.whole_vector = np.asarray(self.b).ravel()

    def relative_residual(self, x):
        """Return the true relative residual of an answer, in float64, the same for all methods."""
        x = np.asarray(x, np.float64)
        x = x[self.active] if x.shape == self.active.shape else x
        return np.linalg.norm(self.vector - self.matrix @ x) / np.linalg.norm(self.vector)


class Method:
    """What all adapters share."""

    ours = False
    missing = None

    def setup(self, system):
        """Prepare; nothing to do by default."""


class ScipyCG(Method):
    """SciPy's conjugate gradients without preconditioner."""

    name = "SciPy CG"

    def preconditioner(self, state):
        """Return ``M``."""

    def solve(self, state, system, rtol):
        """Solve with SciPy's loop."""
        count = [0]

        def callback(_):
            count[0] += 1

        x, _ = scipy.sparse.linalg.cg(
            system.matrix,
            system.vector,
            rtol=rtol,
            atol=0.0,
            maxiter=MOST_STEPS,
            M=self.preconditioner(state),
            callback=callback,
        )
        return x, count[0]


class IncompleteCholesky(ScipyCG):
    """ilupp's IC(0) inside SciPy's loop."""

    name = "IC(0)-CG (ilupp)"

    def __init__(self):
        self.module, self.missing = optional("ilupp")

    def setup(self, system):
        """Factorise."""
        return self.module.IChol0Preconditioner(system.matrix)

    def preconditioner(self, state):
        """Return the factor."""
        return state


class PyAMG(Method):
    """PyAMG with its defaults, accelerated by conjugate gradients."""

    def __init__(self, name, maker):
        self.name, self.maker = name, maker
        self.module, self.missing = optional("pyamg")

    def setup(self, system):
        """Build the hierarchy."""
        return getattr(self.module, self.maker)(system.matrix)

    def solve(self, state, system, rtol):
        """Solve with PyAMG's loop."""
        residuals = []
        x = state.solve(system.vector, tol=rtol, accel="cg", residuals=residuals, maxiter=500)
        return x, len(residuals) - 1


class AMGCL(Method):
    """AMGCL (compiled C++) with conjugate gradients.

    Its default factorises a coarsest level of several thousand unknowns, which on some sizes takes
    most of the setup; with ``coarse_enough`` it goes on coarsening.
    """

    def __init__(self, name, coarsening, relaxation, coarse_enough=None):
        self.name = name if coarse_enough is None else f"{name}, {coarse_enough}"
        self.settings = {"coarsening.type": coarsening, "relax.type": relaxation}
        if coarse_enough is not None:
            self.settings["coarse_enough"] = coarse_enough
        self.module, self.missing = optional("pyamgcl")

    def setup(self, system):
        """Build the hierarchy."""
        return self.module.amg(system.matrix, self.settings)

    def solve(self, state, system, rtol):
        """Solve with AMGCL's loop."""
        settings = {"type": "cg", "tol": rtol, "maxiter": 500}
        solver = self.module.solver(state, settings)
        x = solver(system.vector)
        return x, solver.iters


class OurCG(Method):
    """Our compiled conjugate gradients, without or with Jacobi's preconditioner."""

    ours = True

    def __init__(self, name="our CG"):
        self.name = name

    def setup(self, system):
        """Return no preconditioner."""
        return current_operator(system), None

    def solve(self, state, system, rtol):
        """Solve within one compiled loop."""
        operator, preconditioner = state
        solution = conjugate_gradient(
            operator, system.b, preconditioner=preconditioner, rtol=rtol, max_steps=MOST_STEPS
        )
        return jax.block_until_ready(solution.value), solution.stats["num_steps"]


class _Jacobi(eqx.Module):
    inverse: jax.Array

    def __call__(self, r):
        return self.inverse * r


class OurJacobi(OurCG):
    """Jacobi's preconditioner in our loop."""

    def setup(self, system):
        """Invert the diagonal."""
        operator = current_operator(system)
        diagonal = operator.diagonal
        return operator, _Jacobi(jnp.where(diagonal > 0, 1 / diagonal, 0))


class Multigrid(OurCG):
    """Our V-cycle in float32 within the float64 loop."""

    def __init__(self, name, weights_of):
        self.name, self.weights_of = name, functools.cache(weights_of)

    def missing_for(self, n_axes):
        """Return why there is nothing to measure."""
        try:
            self.weights_of(n_axes)
        except FileNotFoundError as error:
            return str(error)
        return None

    def setup(self, system):
        """Build the hierarchy."""
        operator = current_operator(system)
        weights = self.weights_of(len(operator.n_points))
        return jax.block_until_ready((operator, MultigridPreconditioner(operator, weights)))


class SciPyDoor(Method):
    """What a SciPy user calls: ``cg(A, b, M=aspreconditioner(A))``, from CSR to NumPy.

    The matrix has empty rows for cells without fluid: without them it is on no grid, and
    `aspreconditioner` would take smoothed aggregation.
    """

    name = "cg with aspreconditioner"
    ours = True

    def setup(self, system):
        """Find the grid and build the hierarchy."""
        if system.assemble is None:
            matrix = system.whole_matrix
        else:
            matrix = system.assemble().to_scipy()
        return matrix, aspreconditioner(matrix)

    def solve(self, state, system, rtol):
        """Solve as a SciPy user does."""
        matrix, M = state
        b = system.whole_vector
        x, _, record = cg(matrix, b, M=M, rtol=rtol, maxiter=MOST_STEPS, full_output=True)
        return x.reshape(system.active.shape), record["num_steps"]


class Directions(Method):
    """DCDM: as published (the network alone), or with our V-cycle as safeguard."""

    ours = True
    tightens = False  # it stops at a number of steps, not at a tolerance

    def __init__(self, name, networks, safeguard):
        self.name, self.networks, self.safeguard = name, networks, safeguard

    def missing_for(self, n_axes):
        """Return why there is nothing to measure."""
        if n_axes not in self.networks:
            return f"no trained network in {n_axes}-D; give --directions"
        return None

    def setup(self, system):
        """Build the safeguard."""
        operator = current_operator(system)
        M = MultigridPreconditioner(operator) if self.safeguard else None
        return jax.block_until_ready((operator, M))

    def solve(self, state, system, rtol):
        """Solve; the published form stops after 300 steps, whatever is left."""
        operator, M = state
        network = self.networks[len(operator.n_points)]
        solution = conjugate_directions(
            operator,
            system.b,
            direction=_InSinglePrecision(network),
            preconditioner=M,
            safeguard=self.safeguard,
            rtol=rtol,
            max_steps=300,
        )
        return jax.block_until_ready(solution.value), solution.stats["num_steps"]


class _InSinglePrecision(eqx.Module):
    network: eqx.Module

    def __call__(self, r):
        return self.network(r.astype(jnp.float32)).astype(r.dtype)


def current_operator(system):
    """Return the operator, assembled anew where the system asks for it."""
    return system.operator if system.assemble is None else system.assemble()


def optional(name):
    """Return the module and None, or None and the reason why it is not there."""
    try:
        return importlib.import_module(name), None
    except ImportError as error:
        return None, f"not installed ({error})"


def untrained_weights(n_axes):
    """Return the classical cycle's numbers."""
    return MultigridWeights()


def load_networks(folder):
    """Return the trained direction networks of a folder, by number of axes."""
    networks = {}
    if folder is not None:
        for n_axes in (2, 3):
            path = Path(folder) / f"direction_{n_axes}d"
            if path.exists():
                networks[n_axes] = sciml.load(path)
    return networks


def all_methods(directions=None):
    """Return every method of the table."""
    networks = load_networks(directions)
    methods = [
        ScipyCG(),
        OurCG(),
        OurJacobi("our Jacobi-CG"),
        IncompleteCholesky(),
        PyAMG("PyAMG SA-CG", "smoothed_aggregation_solver"),
        PyAMG("PyAMG RS-CG", "ruge_stuben_solver"),
        AMGCL("AMGCL SA/ilu0", "smoothed_aggregation", "ilu0"),
        AMGCL("AMGCL SA/spai0", "smoothed_aggregation", "spai0"),
        AMGCL("AMGCL RS/Gauss-Seidel", "ruge_stuben", "gauss_seidel"),
        *(
            AMGCL("AMGCL SA/ilu0", "smoothed_aggregation", "ilu0", 1000),
            AMGCL("AMGCL SA/spai0", "smoothed_aggregation", "spai0", 1000),
            AMGCL("AMGCL SA/spai0", "smoothed_aggregation", "spai0", 300),
            AMGCL("AMGCL RS/Gauss-Seidel", "ruge_stuben", "gauss_seidel", 1000),
        ),
        Multigrid("V-cycle untrained", untrained_weights),
        Multigrid("V-cycle learned", trained_weights),
        SciPyDoor(),
        Directions("safeguarded DCDM", networks, safeguard=True),
        Directions("published DCDM", networks, safeguard=False),
    ]
    return {method.name: method for method in methods}
