"""Generate flows in the form of CFDBench cases: ``cfdbench_like``, never CFDBench itself."""

import numpy as np

from ..core import check_count, check_positive
from ..problems import AbstractWallFlow, ChannelFlow, Disc, LidDrivenCavity, march_flow
from ._flow_case import FlowCase, FlowProblem


def generate_cavity(
    *,
    lid: float | int,
    density: float | int,
    viscosity: float | int,
    size: float | int,
    n: int = 64,
    dt: float | int = 0.1,
    n_frames: int = 100,
    refine: int = 1,
) -> FlowCase:
    """Generate the flow in a square cavity whose lid starts to move.

    Parameters
    ----------
    lid
        Speed of the lid in m/s.
    density
        In kg/m^3.
    viscosity
        Dynamic viscosity in Pa s.
    size
        Side of the square in m.
    n
        Nodes an axis between the walls.
    dt
        Seconds between frames.
    n_frames
        Frames after the first, which is at rest.
    refine
        Solve on a grid this many times finer.

    Returns
    -------
    FlowCase
        With ``n_frames + 1`` frames.

    Raises
    ------
    RuntimeError
        If the solution blows up.

    Examples
    --------
    >>> case = generate_cavity(lid=0.1, density=1.0, viscosity=1e-4, size=0.1, n=14, n_frames=2)
    >>> case.u.shape, round(case.reynolds)
    ((3, 14, 14), 100)
    """
    check_positive("density", density)
    check_positive("size", size)
    n, refine = check_count("n", n, minimum=3), check_count("refine", refine)
    nodes = refine * (n + 1) + 1
    flow = LidDrivenCavity(
        (nodes, nodes), viscosity=viscosity / density, lid=lid, domain_extent=size
    )
    params = {"vel_top": lid, "density": density, "viscosity": viscosity}
    params |= {"height": size, "width": size}
    return _record(FlowProblem.CAVITY, flow, params, dt, n_frames, refine)


def generate_channel(
    *,
    inlet: float | int,
    density: float | int,
    viscosity: float | int,
    height: float | int,
    width: float | int,
    n: int = 64,
    dt: float | int = 0.01,
    n_frames: int = 100,
    refine: int = 1,
) -> FlowCase:
    """Generate the entrance flow of a channel, a stand-in for the tube, with one fluid.

    The tube of the benchmark is filled with water that displaces air.

    Parameters
    ----------
    inlet
        Velocity at the inlet in m/s.
    density, viscosity
        As in `generate_cavity`.
    height, width
        Distance of the walls, and length of the channel, in m.
    n, dt, n_frames, refine
        As in `generate_cavity`; the last column is the outlet.

    Returns
    -------
    FlowCase
        With ``n_frames + 1`` frames.

    Examples
    --------
    >>> case = generate_channel(
    ...     inlet=1.0, density=1.0, viscosity=1e-3, height=0.1, width=1.0, n=14, n_frames=2)
    >>> case.frames().shape, round(case.reynolds)
    ((3, 2, 16, 15), 100)
    """
    check_positive("density", density)
    n, refine = check_count("n", n, minimum=3), check_count("refine", refine)
    flow = ChannelFlow(
        (refine * (n + 1) + 1, refine * n + 1),
        viscosity=viscosity / density,
        inlet=inlet,
        domain_extent=(height, width),
    )
    params = {"vel_in": inlet, "density": density, "viscosity": viscosity}
    params |= {"height": height, "width": width}
    return _record(FlowProblem.TUBE, flow, params, dt, n_frames, refine)


def generate_cylinder(
    *,
    inlet: float | int,
    density: float | int,
    viscosity: float | int,
    radius: float | int = 0.01,
    x_range: tuple[float, float] = (-0.06, 0.16),
    y_range: tuple[float, float] = (-0.06, 0.06),
    n: int = 64,
    dt: float | int = 0.001,
    n_frames: int = 100,
    refine: int = 2,
) -> FlowCase:
    """Generate the flow past a cylinder between walls.

    Parameters
    ----------
    inlet
        Velocity at the inlet in m/s.
    density, viscosity
        As in `generate_cavity`.
    radius
        Radius of the cylinder in m.
    x_range, y_range
        The box, in coordinates whose origin is the centre of the cylinder.
    n, dt, n_frames, refine
        As in `generate_cavity`; the last column is the outlet. On fewer than ten nodes a diameter
        the wake is not what it should be.

    Returns
    -------
    FlowCase
        With ``n_frames + 1`` frames.

    Raises
    ------
    ValueError
        If the cylinder does not lie inside the box.

    Examples
    --------
    >>> case = generate_cylinder(
    ...     inlet=1.0, density=1.0, viscosity=1e-4, n=14, n_frames=2, refine=1)
    >>> bool(case.mask.sum() < 14 * 14), round(case.reynolds)
    (True, 200)
    """
    check_positive("density", density)
    n, refine = check_count("n", n, minimum=3), check_count("refine", refine)
    (x_min, x_max), (y_min, y_max) = x_range, y_range
    flow = ChannelFlow(
        (refine * (n + 1) + 1, refine * n + 1),
        viscosity=viscosity / density,
        inlet=inlet,
        domain_extent=(y_max - y_min, x_max - x_min),
        obstacle=Disc((-y_min, -x_min), radius),
    )
    params = {"vel_in": inlet, "density": density, "viscosity": viscosity, "radius": radius}
    params |= {"x_min": x_min, "x_max": x_max, "y_min": y_min, "y_max": y_max}
    return _record(FlowProblem.CYLINDER, flow, params, dt, n_frames, refine)


def _record(
    problem: FlowProblem,
    flow: AbstractWallFlow,
    params: dict[str, float | int],
    dt: float | int,
    n_frames: int,
    refine: int,
) -> FlowCase:
    solution = march_flow(flow, dt=dt, n_frames=n_frames)
    nodes = np.asarray(solution.value[..., ::refine, ::refine], np.float32)
    right = -1 if problem is FlowProblem.CAVITY else None
    inner = nodes[:, :, 1:-1, 1:right]
    numbers = {key: float(value) for key, value in params.items()}
    return FlowCase(problem, inner[:, 0], inner[:, 1], numbers, dt, "cfdbench_like")
