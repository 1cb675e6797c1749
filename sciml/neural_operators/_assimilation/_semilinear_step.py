r"""A step that knows the linear part of its equation and learns the rest."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ...core import Field, RealScalar, check_positive, check_shape, cites
from ...core._bibliography import COX_2002
from ...numerics._fourier import scale
from ...problems import AbstractSemilinearPDE
from ...problems._phi_functions import phi_functions
from ...problems._stepper import as_weight, symbol_and_step
from ._bibliography import SINGH_2024


@cites(COX_2002, SINGH_2024)
class SemilinearStep(eqx.Module):
    r"""Exponential time step of :math:`z_t = A z + G(z)` with a learned ``G``.

    .. math::
        a &= e^{hA} z + h \varphi_1(hA) G(z) \\
        z^+ &= a + h \varphi_2(hA) (G(a) - G(z)) \quad \text{(order 2 only)}

    ``A`` is exact, so that stiff diffusion costs nothing and need not be learned; the step ``h``
    may change from call to call. The published method has the semigroup in its derivation and
    learns all of the step instead (`ResidualPredictor`).

    Parameters
    ----------
    problem
        A periodic equation, of which only the linear symbol is used.
    nonlinearity
        ``G``, a map of fields to fields: a network, or a function.
    dt
        Step where a call gives none, in physical time.
    order
        1 (one evaluation of ``G`` a step) or 2 (two of them).

    References
    ----------
    .. [1] S. M. Cox and P. C. Matthews, "Exponential time differencing for stiff systems",
       Journal of Computational Physics 176 (2002), 430-455.

    Examples
    --------
    >>> import jax.numpy as jnp
    >>> from sciml.problems import KuramotoSivashinsky1D
    >>> problem = KuramotoSivashinsky1D((64,), domain_extent=22.0)
    >>> step = SemilinearStep(problem, jnp.zeros_like, 0.5)
    >>> wave = jnp.cos(2 * jnp.pi * jnp.arange(64) / 64)[None]
    >>> k = 2 * jnp.pi / 22
    >>> bool(jnp.allclose(step(wave), jnp.exp(0.5 * (k**2 - k**4)) * wave, atol=1e-5))
    True
    """

    problem: AbstractSemilinearPDE
    nonlinearity: Callable[[Array], Array]
    dt: float = eqx.field(static=True)
    order: int = eqx.field(static=True)

    def __init__(
        self,
        problem: AbstractSemilinearPDE,
        nonlinearity: Callable[[Array], Array],
        dt: float | int,
        *,
        order: int = 2,
    ):
        check_positive("dt", dt)
        if order not in (1, 2):
            raise ValueError(f"`order` must be 1 or 2, got {order!r}.")
        self.problem = problem
        self.nonlinearity = nonlinearity
        self.dt = float(dt)
        self.order = order

    def __call__(self, z: Field, dt: RealScalar | None = None) -> Field:
        """Return the state one step later.

        Raises
        ------
        ValueError
            If ``z`` is not a state of the problem or ``dt`` is not positive.
        """
        check_shape("z", z, (self.problem.n_channels, *self.problem.n_points))
        if dt is not None:
            check_positive("dt", dt)
        symbol, h = symbol_and_step(self.problem, self.dt if dt is None else dt, z.dtype)
        phi_1, phi_2, _ = phi_functions(h * symbol)
        xp = np if isinstance(phi_1, np.ndarray) else jnp
        decay, first, second = (
            as_weight(weight, z.dtype) for weight in (xp.exp(h * symbol), h * phi_1, h * phi_2)
        )

        def nonlinear(z_hat):
            return self.problem.to_spectral(self.nonlinearity(self.problem.to_physical(z_hat)))

        z_hat = self.problem.to_spectral(z)
        n_z = self.problem.to_spectral(self.nonlinearity(z))
        a = scale(decay, z_hat) + scale(first, n_z)
        if self.order == 2:
            a = a + scale(second, nonlinear(a) - n_z)
        return self.problem.to_physical(a)
