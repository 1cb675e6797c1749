"""The equation that a data file is about: coefficients from the file, or from the options."""

import dataclasses
import numbers
from typing import Any

import jax.numpy as jnp
import numpy as np

from ..core import check_non_negative
from ..data import FieldDataset, Forcing
from ..problems import NavierStokes2D
from ._errors import UsageError
from ._refine import Refine

_HINT = "It is what `sciml data info` shows; `sciml data generate` writes all of it."


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """Two-dimensional Navier-Stokes flow as the data have it."""

    n_points: tuple[int, ...]
    domain_extent: tuple[float, ...]
    viscosity: float
    drag: float
    forcing: np.ndarray | None
    """One field ``(1, x, y)`` a trajectory, or one for all, stacked; none at all."""

    def problem(self, sample: int) -> NavierStokes2D:
        """Return the equation of a trajectory, in JAX's precision at the call."""
        forcing = self.forcing
        if forcing is not None:
            forcing = jnp.asarray(forcing[sample if len(forcing) > 1 else 0])
        return NavierStokes2D(
            self.n_points,
            viscosity=self.viscosity,
            domain_extent=self.domain_extent,
            drag=self.drag,
            forcing=forcing,
        )


def read_flow(dataset: FieldDataset, options: Refine) -> Flow:
    """Return the equation of the data.

    Raises
    ------
    UsageError
        If the data are not vorticity on a plane, a coefficient is missing or stated twice, or the
        file speaks of another equation.
    """
    equation = dataset.attributes.get("equation", "Navier-Stokes")
    if "navier-stokes" not in str(equation).lower():
        raise UsageError(
            f"{options.data} says that its equation is {equation!r}; `sciml refine` solves "
            "two-dimensional Navier-Stokes in vorticity form. From Python "
            "`sciml.neural_operators.refine` takes other equations."
        )
    if len(dataset.axes) != 2 or dataset.n_channels != 1:
        raise UsageError(
            "`sciml refine` solves two-dimensional Navier-Stokes in vorticity form: one channel on "
            f"two axes; {options.data} has the channels {', '.join(dataset.channels)} on the axes "
            f"{', '.join(dataset.axes)}."
        )
    viscosity = _coefficient(dataset, options, "viscosity")
    if viscosity is None:
        raise UsageError(
            f"{options.data} does not say its viscosity (its attributes are "
            f"{_names(dataset.attributes)}): pass --viscosity. {_HINT}"
        )
    if viscosity == 0:
        raise UsageError("the viscosity is 0: the residual is measured against diffusion.")
    return Flow(
        dataset.n_points,
        dataset.domain_extent,
        viscosity,
        _coefficient(dataset, options, "drag") or 0.0,
        _forcing(dataset, options),
    )


def _coefficient(dataset: FieldDataset, options: Refine, name: str) -> float | None:
    stated, passed = dataset.attributes.get(name), getattr(options, name)
    sources = ((f"the {name} of {options.data}", stated), (f"--{name}", passed))
    for source, value in sources:
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, numbers.Real):
            raise UsageError(f"{source} must be a number, got {value!r}.")
        try:
            check_non_negative(name, value)
        except ValueError:
            raise UsageError(
                f"{source} must be zero or positive, and finite; got {value}."
            ) from None
    if (
        stated is not None
        and passed is not None
        and not np.isclose(stated, passed, rtol=1e-9, atol=0)
    ):
        raise UsageError(
            f"{options.data} says that its {name} is {stated:g}: leave out --{name} {passed:g}."
        )
    value = passed if stated is None else stated
    return None if value is None else float(value)


def _forcing(dataset: FieldDataset, options: Refine) -> np.ndarray | None:
    """Return the field that the file holds, or the one that it or the options name."""
    stated = dataset.attributes.get("forcing")
    if "forcing" in dataset.context_names and dataset.context is not None:
        if options.forcing is not None:
            raise UsageError(f"{options.data} holds its forcing: leave out --forcing.")
        channel = dataset.context_names.index("forcing")
        return dataset.context[:, channel : channel + 1]
    if stated is not None and options.forcing is not None and stated != options.forcing:
        raise UsageError(
            f"{options.data} says that its forcing is {stated!r}: leave out --forcing "
            f"{options.forcing}."
        )
    name = options.forcing if stated is None else stated
    if name is None:
        raise UsageError(
            f"{options.data} neither holds its forcing (a context field of that name; it has "
            f"{_names(dataset.context_names)}) nor says that there is none: pass --forcing. {_HINT}"
        )
    try:
        kind = Forcing(name)
    except ValueError:
        raise UsageError(
            f"{options.data} says that its forcing is {name!r}, which is none of "
            f"{', '.join(member.value for member in Forcing)}, and does not hold it as a context "
            "field named 'forcing'."
        ) from None
    if kind is Forcing.NONE:
        return None
    if dataset.n_points[0] != dataset.n_points[1] or len(set(dataset.domain_extent)) > 1:
        raise UsageError(
            f"the forcing {name!r} is known on squares with as many points along both axes; "
            f"{options.data} has {dataset.n_points} on {dataset.domain_extent}. Put the field into "
            "the file, as context named 'forcing'."
        )
    field = kind.field((dataset.n_points[0], dataset.n_points[1]), dataset.domain_extent[0])
    return np.asarray(field)[None]


def _names(names: Any) -> str:
    return ", ".join(names) if names else "none"
