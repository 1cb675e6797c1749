"""Small equality-constrained problems with known optima, after Hock and Schittkowski."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ...core import cites
from .._bibliography import HOCK_1981


@dataclasses.dataclass(frozen=True)
class EqualityProblem:
    """Minimise ``objective`` where ``constraint`` is zero.

    Parameters
    ----------
    name
        Its number in the collection.
    objective, constraint
        Functions of ``x``.
    start
        Where the collection starts it.
    optimum
        The objective at the solution.

    Examples
    --------
    >>> from sciml.constraints import equality_problems
    >>> equality_problems()["HS28"].optimum
    0.0
    """

    name: str
    objective: Callable[[Any], Any]
    constraint: Callable[[Any], Any]
    start: tuple[float, ...]
    optimum: float


@cites(HOCK_1981)
def equality_problems() -> dict[str, EqualityProblem]:
    """Return the collection by name.

    Returns
    -------
    dict
        Problems of two to five unknowns with one to three constraints.

    References
    ----------
    .. [1] W. Hock and K. Schittkowski, "Test Examples for Nonlinear Programming Codes", Springer,
       1981.

    Examples
    --------
    >>> len(equality_problems())
    14
    """
    rows = (
        ("HS6", lambda x: (1 - x[0]) ** 2, lambda x: [10 * (x[1] - x[0] ** 2)], (-1.2, 1.0), 0.0),
        (
            "HS7",
            lambda x: jnp.log(1 + x[0] ** 2) - x[1],
            lambda x: [(1 + x[0] ** 2) ** 2 + x[1] ** 2 - 4],
            (2.0, 2.0),
            -(3**0.5),
        ),
        (
            "HS26",
            lambda x: (x[0] - x[1]) ** 2 + (x[1] - x[2]) ** 4,
            lambda x: [(1 + x[1] ** 2) * x[0] + x[2] ** 4 - 3],
            (-2.6, 2.0, 2.0),
            0.0,
        ),
        (
            "HS27",
            lambda x: 0.01 * (x[0] - 1) ** 2 + (x[1] - x[0] ** 2) ** 2,
            lambda x: [x[0] + x[2] ** 2 + 1],
            (2.0, 2.0, 2.0),
            0.04,
        ),
        (
            "HS28",
            lambda x: (x[0] + x[1]) ** 2 + (x[1] + x[2]) ** 2,
            lambda x: [x[0] + 2 * x[1] + 3 * x[2] - 1],
            (-4.0, 1.0, 1.0),
            0.0,
        ),
        (
            "HS39",
            lambda x: -x[0],
            lambda x: [x[1] - x[0] ** 3 - x[2] ** 2, x[0] ** 2 - x[1] - x[3] ** 2],
            (2.0, 2.0, 2.0, 2.0),
            -1.0,
        ),
        (
            "HS40",
            lambda x: -x[0] * x[1] * x[2] * x[3],
            lambda x: [x[0] ** 3 + x[1] ** 2 - 1, x[0] ** 2 * x[3] - x[2], x[3] ** 2 - x[1]],
            (0.8, 0.8, 0.8, 0.8),
            -0.25,
        ),
        (
            "HS42",
            lambda x: (x[0] - 1) ** 2 + (x[1] - 2) ** 2 + (x[2] - 3) ** 2 + (x[3] - 4) ** 2,
            lambda x: [x[0] - 2, x[2] ** 2 + x[3] ** 2 - 2],
            (1.0, 1.0, 1.0, 1.0),
            28 - 10 * 2**0.5,
        ),
        (
            "HS48",
            lambda x: (x[0] - 1) ** 2 + (x[1] - x[2]) ** 2 + (x[3] - x[4]) ** 2,
            lambda x: [jnp.sum(x) - 5, x[2] - 2 * (x[3] + x[4]) + 3],
            (3.0, 5.0, -3.0, 2.0, -2.0),
            0.0,
        ),
        (
            "HS52",
            lambda x: (
                (4 * x[0] - x[1]) ** 2 + (x[1] + x[2] - 2) ** 2 + (x[3] - 1) ** 2 + (x[4] - 1) ** 2
            ),
            lambda x: [x[0] + 3 * x[1], x[2] + x[3] - 2 * x[4], x[1] - x[4]],
            (2.0, 2.0, 2.0, 2.0, 2.0),
            1859 / 349,
        ),
        (
            "HS61",
            lambda x: (
                4 * x[0] ** 2 + 2 * x[1] ** 2 + 2 * x[2] ** 2 - 33 * x[0] + 16 * x[1] - 24 * x[2]
            ),
            lambda x: [3 * x[0] - 2 * x[1] ** 2 - 7, 4 * x[0] - x[2] ** 2 - 11],
            (0.0, 0.0, 0.0),
            -143.6461422,
        ),
        (
            "HS77",
            lambda x: (
                (x[0] - 1) ** 2
                + (x[0] - x[1]) ** 2
                + (x[2] - 1) ** 2
                + (x[3] - 1) ** 4
                + (x[4] - 1) ** 6
            ),
            lambda x: [
                x[0] ** 2 * x[3] + jnp.sin(x[3] - x[4]) - 2 * 2**0.5,
                x[1] + x[2] ** 4 * x[3] ** 2 - 8 - 2**0.5,
            ],
            (2.0, 2.0, 2.0, 2.0, 2.0),
            0.24150513,
        ),
        (
            "HS78",
            lambda x: jnp.prod(x),
            lambda x: [
                jnp.sum(x**2) - 10,
                x[1] * x[2] - 5 * x[3] * x[4],
                x[0] ** 3 + x[1] ** 3 + 1,
            ],
            (-2.0, 1.5, 2.0, -1.0, -1.0),
            -2.91970041,
        ),
        (
            "HS79",
            lambda x: (
                (x[0] - 1) ** 2
                + (x[0] - x[1]) ** 2
                + (x[1] - x[2]) ** 2
                + (x[2] - x[3]) ** 4
                + (x[3] - x[4]) ** 4
            ),
            lambda x: [
                x[0] + x[1] ** 2 + x[2] ** 3 - 2 - 3 * 2**0.5,
                x[1] - x[2] ** 2 + x[3] + 2 - 2 * 2**0.5,
                x[0] * x[4] - 2,
            ],
            (2.0, 2.0, 2.0, 2.0, 2.0),
            0.0787768209,
        ),
    )
    return {
        name: EqualityProblem(name, f, lambda x, c=c: jnp.stack(c(x)), start, optimum)
        for name, f, c, start, optimum in rows
    }
