"""One flow of the CFD benchmark: its frames, where the fluid is, and what drives it."""

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from ..core import check_finite, check_positive
from ._field_checks import require_finite


class FlowProblem(enum.Enum):
    """The four problems of CFDBench, by the names of their folders."""

    CAVITY = "cavity"
    TUBE = "tube"
    DAM = "dam"
    CYLINDER = "cylinder"

    @property
    def parameters(self) -> tuple[str, ...]:
        """The keys of ``case.json`` that a case must have, in the order of feature vectors."""
        return _PARAMETERS[self]

    @property
    def dt(self) -> float:
        """Seconds between frames of the published files.

        Paper and solver script say 0.01 s for the tube; the published loader says 0.1 s.
        """
        return {"cavity": 0.1, "tube": 0.01, "dam": 0.1, "cylinder": 0.001}[self.value]

    @property
    def padding(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """Rows (below, above) and columns (left, right) of boundary that the files leave out."""
        right = 1 if self is FlowProblem.CAVITY else 0
        return ((1, 1), (1, right))


_COMMON = ("density", "viscosity")
_PARAMETERS = {
    FlowProblem.CAVITY: ("vel_top", *_COMMON, "height", "width"),
    FlowProblem.TUBE: ("vel_in", *_COMMON, "height", "width"),
    FlowProblem.DAM: ("velocity", *_COMMON, "height", "width", "barrier_height", "barrier_width"),
    FlowProblem.CYLINDER: ("vel_in", *_COMMON, "x_min", "x_max", "y_min", "y_max", "radius"),
}
# The step of the dam stands this far from the inlet in every case.
_GRAVITY = 9.81
_BARRIER_LEFT = 0.5


@dataclasses.dataclass(frozen=True, eq=False)
class FlowCase:
    r"""A trajectory of velocities on ``(y, x)``, row 0 at the bottom, and its parameters.

    ``u`` and ``v`` are the values between the boundaries, as the files have them, possibly mapped
    from a file. `frames` puts the boundary around them: the moving lid or the inlet, and walls at
    rest, so that a model sees what drives the flow.

    Parameters
    ----------
    problem
        Which flow.
    u, v
        Velocity along x and along y in m/s, ``(time, height, width)``, float32 or float64.
    params
        The numbers of ``case.json``: velocities in m/s, ``density`` in kg/m^3, ``viscosity``
        (dynamic) in Pa s, lengths in m.
    dt
        Seconds between frames.
    name
        Where it came from, for messages.

    Raises
    ------
    ValueError
        If a parameter is missing or not positive, the shapes of ``u`` and ``v`` differ, there is
        no frame, or a value is not finite.

    Examples
    --------
    >>> import numpy as np
    >>> params = {"vel_top": 2.0, "density": 1.0, "viscosity": 0.01, "height": 0.5, "width": 0.5}
    >>> zeros = np.zeros((3, 6, 6), np.float32)
    >>> case = FlowCase(FlowProblem.CAVITY, zeros, zeros, params, dt=0.1)
    >>> case.frames().shape, case.reynolds, float(case.frames()[0, 0, -1].max())
    ((3, 2, 8, 8), 100.0, 2.0)
    """

    problem: FlowProblem
    u: np.ndarray
    v: np.ndarray
    params: Mapping[str, float]
    dt: float | int
    name: str = ""

    def __post_init__(self):
        check_positive("dt", self.dt)
        label = f"case {self.name!r}" if self.name else "the case"
        for key in self.problem.parameters:
            if key not in self.params:
                raise ValueError(
                    f"{label} has no parameter {key!r}; a {self.problem.value} needs "
                    f"{self.problem.parameters}, got {tuple(self.params)}."
                )
            if key in ("x_min", "y_min"):
                check_finite(f"params[{key!r}]", self.params[key])
                end = "x_max" if key == "x_min" else "y_max"
                if not self.params[key] < self.params[end]:
                    raise ValueError(
                        f"{label} has {key} = {self.params[key]:g}, which is not below {end} = "
                        f"{self.params[end]:g}."
                    )
            else:
                check_positive(f"params[{key!r}]", self.params[key])
        for name, array in (("u", self.u), ("v", self.v)):
            if array.ndim != 3 or 0 in array.shape:
                raise ValueError(
                    f"`{name}` of {label} must have the axes (time, height, width), none of them "
                    f"empty; got shape {array.shape}."
                )
            if array.dtype.kind != "f" or array.dtype.itemsize not in (4, 8):
                raise TypeError(
                    f"`{name}` of {label} must be float32 or float64, got {array.dtype}."
                )
            require_finite(f"{name} of {label}", array, ("time", "y", "x"))
        if self.u.shape != self.v.shape:
            raise ValueError(
                f"`u` and `v` of {label} must have one shape, got {self.u.shape} and "
                f"{self.v.shape}."
            )

    @property
    def n_times(self) -> int:
        """Number of frames."""
        return self.u.shape[0]

    @property
    def speed(self) -> float:
        """Velocity of the lid or of the inlet."""
        return float(self.params[self.problem.parameters[0]])

    @property
    def extent(self) -> tuple[float, float]:
        """Height and width."""
        p = self.params
        if self.problem is FlowProblem.CYLINDER:
            return float(p["y_max"] - p["y_min"]), float(p["x_max"] - p["x_min"])
        return float(p["height"]), float(p["width"])

    @property
    def length(self) -> float:
        """The length in the Reynolds number: of the lid, between the walls, of the obstacle."""
        if self.problem is FlowProblem.CAVITY:
            return self.extent[1]
        if self.problem is FlowProblem.TUBE:
            return self.extent[0]
        if self.problem is FlowProblem.DAM:
            return float(self.params["barrier_height"])
        return 2 * float(self.params["radius"])

    @property
    def reynolds(self) -> float:
        """Density times speed times length over viscosity."""
        p = self.params
        return float(p["density"]) * self.speed * self.length / float(p["viscosity"])

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of `frames`, boundary included."""
        (below, above), (left, right) = self.problem.padding
        return self.u.shape[1] + below + above, self.u.shape[2] + left + right

    @property
    def spacing(self) -> tuple[float, float]:
        """Distance between the nodes of `frames` along y and x."""
        (height, width), (rows, columns) = self.extent, self.shape
        return height / (rows - 1), width / (columns - 1)

    def positions(self) -> tuple[Float[np.ndarray, " y"], Float[np.ndarray, " x"]]:
        """Return the positions of the nodes of `frames` from the lower left corner."""
        (hy, hx), (rows, columns) = self.spacing, self.shape
        return hy * np.arange(rows), hx * np.arange(columns)

    @property
    def mask(self) -> Bool[np.ndarray, "y x"]:
        """True where a model has to say the velocity: in the fluid, off the known boundary."""
        (below, above), (left, right) = self.problem.padding
        inner = np.ones(self.u.shape[1:], bool)
        return np.pad(inner, ((below, above), (left, right))) & ~self.obstacle

    @property
    def obstacle(self) -> Bool[np.ndarray, "y x"]:
        """True in the cylinder or the step, at rest."""
        y, x = (axis[...] for axis in self.positions())
        p = self.params
        if self.problem is FlowProblem.CYLINDER:
            # The disc is at the origin of the coordinates whose limits the file gives.
            distance = np.hypot(y[:, None] + p["y_min"], x[None, :] + p["x_min"])
            return distance <= p["radius"]
        if self.problem is FlowProblem.DAM:
            columns = (x >= _BARRIER_LEFT) & (x <= _BARRIER_LEFT + p["barrier_width"])
            return (y <= p["barrier_height"])[:, None] & columns[None, :]
        return np.zeros(self.shape, bool)

    @property
    def boundary(self) -> Float[np.ndarray, "2 y x"]:
        """The velocity where `mask` is false, and zero elsewhere."""
        values = np.zeros((2, *self.shape), self.u.dtype)
        if self.problem is FlowProblem.CAVITY:
            values[0, -1, 1:-1] = self.speed
        elif self.problem is FlowProblem.DAM:
            y, _ = self.positions()
            values[0, 1:-1, 0] = np.where(y <= self.params["barrier_height"], self.speed, 0)[1:-1]
        else:
            values[0, 1:-1, 0] = self.speed
        return values

    def frames(self, times: slice = slice(None)) -> Float[np.ndarray, "time 2 y x"]:
        """Return velocities with their boundary, ``(time, 2, y, x)``.

        Parameters
        ----------
        times
            Which frames; only those are read from a mapped file.
        """
        inner = np.stack([self.u[times], self.v[times]], axis=1)
        (below, above), (left, right) = self.problem.padding
        padded = np.pad(inner, ((0, 0), (0, 0), (below, above), (left, right)))
        return np.where(self.mask, padded, self.boundary)

    def stride(self, dt: float | int) -> int:
        """Return how many frames a step of ``dt`` seconds is.

        Raises
        ------
        ValueError
            If it is not a whole number of them.
        """
        check_positive("dt", dt)
        ratio = dt / self.dt
        stride = round(ratio)
        if stride < 1 or abs(ratio - stride) > 1e-3 * stride:
            raise ValueError(
                f"a step of {dt:g} s is {ratio:g} frames of {self.dt:g} s; take a whole multiple."
            )
        return stride

    def features(self, *, dimensionless: bool = True) -> dict[str, float]:
        """Return what tells cases apart, by name and in a fixed order.

        Parameters
        ----------
        dimensionless
            The Reynolds number (its logarithm), the travel of a frame ``speed dt / length``, and
            ratios of lengths; where water meets air (tube, dam) also the logarithm of the density,
            since that of the air stays, and of the dam's Froude number. Otherwise the logarithms
            of the positive parameters as they are.
        """
        if not dimensionless:
            raw = {k: float(self.params[k]) for k in self.problem.parameters}
            return {k: v if k in ("x_min", "y_min") else float(np.log(v)) for k, v in raw.items()}
        height, width = self.extent
        found: dict[str, Any] = {
            "log_reynolds": np.log(self.reynolds),
            "travel": self.speed * self.dt / self.length,
            "height": height / self.length,
            "width": width / self.length,
        }
        if self.problem is FlowProblem.CYLINDER:
            found["below"] = -self.params["y_min"] / self.length
            found["before"] = -self.params["x_min"] / self.length
        if self.problem in (FlowProblem.TUBE, FlowProblem.DAM):
            found["log_density"] = np.log(self.params["density"])
        if self.problem is FlowProblem.DAM:
            found["log_froude"] = np.log(self.speed / np.sqrt(_GRAVITY * self.length))
            found["barrier_width"] = self.params["barrier_width"] / self.length
        return {name: float(value) for name, value in found.items()}
