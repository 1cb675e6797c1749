"""What a step costs each device, by formula: floating-point operations, bytes, exchanged bytes.

Pure arithmetic, used by `scaling.py` beside what the compiled programs say, and by docs/scaling.md.
All figures are those of one device. ``exchanged`` is the size of what the collectives of a step
leave on a device, by kind. On the wire a ring moves ``2 (n - 1) / n`` of that for an all-reduce,
and ``(n - 1) / n`` for an all-gather.
"""

import dataclasses
import math

FLOAT = 4
# An entry that an activation sees, forward and backward: a rational or polynomial form and its
# slope.
_ACTIVATION = 30
# Adam with a schedule, the norm of the gradient and the guard against numbers that are not finite.
_OPTIMIZER = 25
# What the compiled cycle on one device computes for each neighbour of a cell that a product reads.
_RECOMPUTED = 4
# Coarse cells that a block must have to be coarsened on its own device.
_CELLS_AROUND = 3
# A smaller array is kept whole by `sciml.train`.
LEAST_TO_PART = 2**12
# How often a pointwise field is read or written by a Fourier layer, forward: channels, and inner
# channels of its MLP. The backward pass does so twice as often.
_PASSES, _INNER_PASSES = 6, 4


@dataclasses.dataclass(frozen=True)
class Cost:
    """What a step costs a device."""

    flops: float
    moved: float
    """Bytes between the memory and the processor, at least."""
    exchanged: dict[str, float]
    state: float = 0.0
    """Bytes that stay on the device between steps."""

    @property
    def total_exchanged(self) -> float:
        """Bytes of all kinds."""
        return sum(self.exchanged.values())


@dataclasses.dataclass(frozen=True)
class Network:
    """Sizes of an FNO in space, or of a spatiotemporal one (``latent_steps`` above 0).

    ``n_modes`` are those of space; the spatiotemporal model keeps ``time_modes`` as well, and its
    output layer all that ``latent_steps`` hold.
    """

    channels: int
    n_points: tuple[int, ...]
    n_modes: tuple[int, ...]
    n_layers: int
    in_channels: int = 1
    out_channels: int = 1
    latent_steps: int = 0
    time_modes: int = 0
    n_out: int = 1
    """Snapshots that the spatiotemporal model returns."""
    inner: float = 2.0
    """Channels inside the MLP of a layer, in units of ``channels``."""

    @property
    def is_spatiotemporal(self) -> bool:
        """Whether time is an axis of the layers."""
        return self.latent_steps > 0


def n_parameters(net: Network) -> dict[str, int]:
    """Return how many parameters there are, and how many lie in arrays that can be parted."""
    c, h, inner = net.channels, 2 * net.channels, round(net.inner * net.channels)
    mlp = [inner * c, inner, c * inner, c]
    if net.is_spatiotemporal:
        layer_modes = (net.time_modes, *net.n_modes)
        out_modes = ((net.latent_steps + 1) // 2, *net.n_modes)
        arrays = [2 * net.in_channels * c, c, _kept(net.n_modes) * 2 * c * c, *mlp, 5 * c, c]
        arrays += (net.n_layers - 1) * [_kept(layer_modes) * 2 * c * c, c * c, c, *mlp]
        arrays += [_kept(out_modes) * 2 * c * net.out_channels]
    else:
        coordinates = 2 * len(net.n_points)
        arrays = [(net.in_channels + coordinates) * c, c]
        arrays += net.n_layers * [_kept(net.n_modes) * 2 * c * c, c * c, c, *mlp]
    arrays += [h * c, h, net.out_channels * h, net.out_channels]
    large = sum(size for size in arrays if size >= LEAST_TO_PART)
    return {"all": sum(arrays), "large": large}


def training_step(net: Network, samples: int, *, data: int = 1, model: int = 1) -> Cost:
    """Return the cost of a training step with Adam.

    Parameters
    ----------
    net
        The network.
    samples
        Samples of a device, that is of the batch over all devices.
    data, model
        Lengths of the axes of the mesh.
    """
    forward, moved = (_sfno if net.is_spatiotemporal else _fno)(net)
    n = n_parameters(net)
    large, small = n["large"], n["all"] - n["large"]
    mine = large / model + small
    exchanged = {"all-gather": 0.0, "all-reduce": 0.0}
    if model > 1:
        exchanged["all-gather"] = FLOAT * large
    if data * model > 1:
        # Gradients: summed over the parts first, then each part over the groups.
        summed = large * (1 + (data > 1) / model) if model > 1 else large
        exchanged["all-reduce"] = FLOAT * (summed + small)
    return Cost(
        samples * forward + _OPTIMIZER * mine,
        # The weights forward and backward and their gradients; the optimiser reads and writes
        # parameters and two moments, and reads the gradient.
        samples * moved + FLOAT * (3 * n["all"] + 7 * mine),
        {kind: size for kind, size in exchanged.items() if size},
        FLOAT * 3 * mine,
    )


def refinement_product(
    n_snapshots: int, n_history: int, n_points: int, devices: int, *, substeps: int | None
) -> Cost:
    """Return the cost of a residual in 2-D and of its derivative in one direction, in float64.

    That is what a trial and a Krylov vector of `NewtonGMRES` take.

    Parameters
    ----------
    n_snapshots, n_history
        Predicted and known ones.
    n_points
        Points an axis.
    devices
        Over which the snapshots are spread.
    substeps
        Of the solver between snapshots (ETDRK4); None for sixth-order differences in time.
    """
    modes = n_points * (n_points // 2 + 1)
    field = 16.0 * modes
    # As XLA counts a real transform; its true count is 2.5 N log2 N.
    transform = 6 * n_points**2 * math.log2(n_points) ** 2
    # Two transforms back and two forth, and products of points and modes; a tangent costs as much,
    # and twice the products.
    nonlinear = 4 * transform + 40 * n_points**2
    share = math.ceil(n_snapshots / devices)
    n_evaluations = 1 if substeps is None else 4 * substeps
    flops = 2 * share * n_evaluations * nonlinear
    # A stage of ETDRK4 scales and adds about six fields of complex numbers.
    flops += 2 * share * n_evaluations * 24 * modes * (substeps is not None)
    if substeps is None:
        # A dense matrix of differences, which XLA parts over the wavenumbers.
        flops += 2 * 8 * n_snapshots * (n_snapshots + n_history) * modes / devices
    moved = 2 * share * n_evaluations * 30 * field
    exchanged = {}
    if devices > 1 and substeps is None:
        # XLA keeps the differences parted over wavenumbers and the nonlinear terms over snapshots:
        # it turns them twice for each evaluation, and gathers what the solver reads as a whole.
        padded = devices * math.ceil((n_snapshots + n_history) / devices)
        exchanged["all-to-all"] = 2 * field * (share + padded / devices)
        exchanged["all-gather"] = 2 * field * padded
        exchanged["all-reduce"] = field * n_snapshots
    elif devices > 1:
        exchanged["all-to-all"] = 2 * field * 2 * share
        exchanged["all-gather"] = field * share * devices
    return Cost(flops, moved, exchanged)


def constraint_step(
    n_unknowns: int,
    points: int,
    *,
    problems: int = 1,
    experts: int = 1,
    devices_of_points: int = 1,
) -> Cost:
    """Return the cost of a Levenberg-Marquardt step in float64, by the normal equations.

    The factorisation of a matrix of the unknowns is left out, as XLA does not count it either.

    Parameters
    ----------
    n_unknowns
        Of an expert.
    points
        Of an expert, on this device.
    problems, experts
        On this device.
    devices_of_points
        How many share the points of an expert. Along experts and problems nothing is exchanged.
    """
    size = n_unknowns + 1
    one = 2 * points * size**2
    exchanged = {}
    if devices_of_points > 1:
        exchanged = {"all-reduce": 8.0 * problems * experts * size**2}
    return Cost(problems * experts * one, problems * experts * 8 * points * size * 2, exchanged)


def multigrid_iteration(
    n_points: tuple[int, ...],
    plan: tuple[tuple[bool, ...], ...],
    counts: tuple[int, ...] = (),
    *,
    wide: int = 8,
    least_points: int = 4096,
    n_sweeps: int = 2,
) -> Cost:
    """Return the cost of an iteration of CG with a multigrid cycle in float32, no axis periodic.

    One true residual is counted with it, as the compiled program holds one of each; there it is
    taken every fifty iterations.

    Parameters
    ----------
    n_points
        Of the finest grid.
    plan
        Which axes are coarsened on each level.
    counts
        Devices along the first axes.
    wide
        Bytes of a number outside the cycle.
    least_points
        A level of fewer is whole on every device.
    n_sweeps
        Degree of the smoothing polynomial.
    """
    d, counts = len(n_points), counts or (1,)
    n_devices = math.prod(counts)
    flops = moved = permuted = gathered = 0.0
    # Two products with the operator, three sums over the grid and one more, five updates.
    flops += (2 * (4 * d + 1) + 34) * math.prod(n_points) / n_devices
    if n_devices == 1:
        flops += 2 * 2 * d * math.prod(n_points)
    moved += 2 * (d + 3) * wide * math.prod(n_points) / n_devices
    permuted += 2 * wide * _faces(n_points, counts)
    n_offsets, parted, size = d, n_devices > 1, n_points
    for coarsened in plan:
        coarse = tuple(-(-n // 2) if c else n for n, c in zip(size, coarsened, strict=True))
        block = _block(size, counts) if parted else size
        # A block is computed with one plane around it.
        around = math.prod(m + 2 * (parted and axis < len(counts)) for axis, m in enumerate(block))
        cells = math.prod(block)
        n_products = 2 * n_sweeps
        flops += n_products * (4 * n_offsets + 2 + parted) * around + (8 * n_sweeps + 12) * cells
        if not parted:
            # XLA computes what a product reads anew for each neighbour; before planes are
            # exchanged it is computed once.
            flops += n_products * 2 * n_offsets * _RECOMPUTED * cells
        n_weights = math.prod(3 if c else 1 for c in coarsened)
        coarse_cells = math.prod(_block(coarse, counts) if parted else coarse)
        flops += 4 * n_weights * coarse_cells + 2 * cells
        moved += FLOAT * (n_products * (n_offsets + 3) + 4 * n_sweeps) * cells
        moved += FLOAT * 2 * n_weights * coarse_cells
        if parted:
            permuted += FLOAT * n_products * _faces(size, counts)
            pairs = list(zip(block, coarsened, strict=False))[: len(counts)]
            if any((c and m % 2) or m < _CELLS_AROUND * (1 + c) for m, c in pairs):
                parted = False
                gathered = FLOAT * math.prod(size)
            else:
                # A plane on the way down, and one of the coarse grid on the way up.
                permuted += FLOAT * (_faces(size, counts) + _faces(coarse, counts)) / 2
                if math.prod(coarse) < least_points:
                    parted = False
                    gathered = FLOAT * math.prod(coarse)
        n_offsets, size = (3**d - 1) // 2, coarse
    last = math.prod(size)
    flops += 2 * 64 * 3 * last  # slabs of 64 unknowns, once down and once up
    exchanged = {}
    if n_devices > 1:
        # Of two axes first along the one, then along the other.
        steps = [math.prod(counts[k:]) for k in range(1, len(counts))]
        exchanged = {
            "collective-permute": permuted,
            "all-gather": gathered * (1 + sum(1 / k for k in steps)),
        }
    return Cost(flops, moved, exchanged)


def generation_step(n_samples: int, n_points: int, devices: int) -> Cost:
    """Return the cost of two steps of ETDRK4 in float32 of each trajectory, and of its start.

    The compiled program holds one step of the warm-up and one between snapshots; nothing is
    exchanged.

    Parameters
    ----------
    n_samples
        Trajectories that are solved together, by all devices.
    n_points
        Points an axis.
    devices
        Over which they are parted.
    """
    modes = n_points * (n_points // 2 + 1)
    transform = 6 * n_points**2 * math.log2(n_points) ** 2
    step = 4 * (4 * transform + 40 * n_points**2 + 24 * modes)
    share = math.ceil(n_samples / devices)
    # A field at random is transformed once there and back.
    return Cost(share * (2 * step + 2 * transform), share * 2 * 4 * 30 * 8.0 * modes, {})


def _block(n_points: tuple[int, ...], counts: tuple[int, ...]) -> tuple[int, ...]:
    ones = (1,) * (len(n_points) - len(counts))
    return tuple(n // k for n, k in zip(n_points, (*counts, *ones), strict=True))


def _faces(n_points: tuple[int, ...], counts: tuple[int, ...]) -> float:
    """Return the points of the planes that a device fetches from its neighbours, two an axis."""
    block = _block(n_points, counts)
    # Along the second axis with the corners, which came along the first.
    total, around = 0, list(block)
    for axis in range(len(counts)):
        total += 2 * math.prod(around[:axis]) * math.prod(around[axis + 1 :])
        around[axis] += 2
    return total


def _kept(n_modes: tuple[int, ...]) -> int:
    return math.prod(2 * m - 1 for m in n_modes[:-1]) * n_modes[-1]


def _transform(channels: int, n_points: tuple[int, ...], n_modes: tuple[int, ...]) -> float:
    """Return the flops of a truncated transform: one dense real product an axis."""
    kept = [2 * m - 1 for m in n_modes]
    total = 0
    for axis, (n, k) in enumerate(zip(n_points, kept, strict=True)):
        total += 2 * k * n * math.prod(kept[:axis]) * math.prod(n_points[axis + 1 :])
    return channels * total


def _spectral(c: int, c_out: int, n_points: tuple[int, ...], n_modes: tuple[int, ...]) -> float:
    """Return the flops of a spectral convolution, forward and backward."""
    transforms = _transform(c, n_points, n_modes) + _transform(c_out, n_points, n_modes)
    # Products with weights are done three times: their derivative by both factors. Those with
    # matrices that are not trained twice.
    return 2 * transforms + 3 * 8 * c * c_out * _kept(n_modes)


def _layer(
    c: int, n_points: tuple[int, ...], n_modes: tuple[int, ...], inner: float = 2.0
) -> float:
    points = math.prod(n_points)
    dense = 2 * c * c + 4 * inner * c * c
    return (
        _spectral(c, c, n_points, n_modes)
        + 3 * dense * points
        + _ACTIVATION * (1 + inner) * c * points
    )


def _fno(net: Network) -> tuple[float, float]:
    """Return flops and bytes moved of a sample, forward and backward."""
    c, points = net.channels, math.prod(net.n_points)
    # Coordinates are the same for all samples, and lifted once.
    lifting = 2 * 2 * net.in_channels * c * points
    layers = net.n_layers * _layer(c, net.n_points, net.n_modes, net.inner)
    projection = 3 * 2 * (2 * c * c + 2 * c * net.out_channels) * points
    flops = lifting + layers + projection + _ACTIVATION * 2 * c * points
    passes = (net.n_layers + 1) * (_PASSES * c + _INNER_PASSES * net.inner * c)
    return flops, 3 * FLOAT * passes * points


def _sfno(net: Network) -> tuple[float, float]:
    c, space = net.channels, math.prod(net.n_points)
    grid = (net.latent_steps, *net.n_points)
    points = math.prod(grid)
    out_modes = ((net.latent_steps + 1) // 2, *net.n_modes)
    lifting = 2 * 2 * 2 * net.in_channels * c * space
    lifting += _spectral(c, c, net.n_points, net.n_modes) + 3 * 8 * c * c * space
    lifting += _ACTIVATION * (2 * c * space + c * points)
    layers = (net.n_layers - 1) * _layer(c, grid, (net.time_modes, *net.n_modes))
    projection = 3 * 2 * (2 * c * c + 2 * c * net.out_channels) * points
    projection += _ACTIVATION * 2 * c * points
    projection += 2 * 2 * net.n_out * net.latent_steps * net.out_channels * space
    output = 2 * _transform(c, grid, out_modes) + 3 * 8 * c * net.out_channels * _kept(out_modes)
    series = 8 * net.n_out * (2 * out_modes[0] - 1) * _kept(net.n_modes)
    inverse = net.n_out * _transform(1, net.n_points, net.n_modes)
    output += 2 * net.out_channels * (series + inverse)
    passes = net.n_layers * (_PASSES * c + _INNER_PASSES * 2 * c)
    return lifting + layers + projection + output, 3 * FLOAT * passes * points


@dataclasses.dataclass(frozen=True)
class Cluster:
    """Rates of nodes of eight GPUs, assumed for predictions: four fifths of what is advertised.

    ``link`` and ``network`` are bytes a second of a GPU in one direction (NVLink 450 GB/s, 400
    Gbit/s between nodes); ``memory`` are those of an H200; ``latency`` is that of a collective.
    """

    per_node: int = 8
    link: float = 0.8 * 450e9
    network: float = 0.8 * 50e9
    memory: float = 0.8 * 4.8e12
    latency: float = 20e-6

    def gather(self, size: float, gpus: int) -> float:
        """Return the seconds after which each GPU has ``size`` bytes, of which it had a share."""
        inside = min(gpus, self.per_node)
        nodes = gpus // inside
        seconds = self.latency * (1 + math.log2(nodes)) + size * (1 - 1 / inside) / self.link
        # Each GPU of a node fetches its part of what other nodes have.
        return seconds + size / inside * (1 - 1 / nodes) / self.network

    def reduce(self, size: float, gpus: int) -> float:
        """Return the seconds of an all-reduce: a reduction of parts, then a gather."""
        return 2 * self.gather(size, gpus)


def predictions(cluster: Cluster, gpus: tuple[int, ...] = (8, 512)) -> list[dict]:
    """Return what to expect on several GPUs; the seconds of one are measured (gpu.json, H200).

    Nothing is assumed to overlap. Training is weak scaling: each GPU has the samples of the one
    that was measured. Refinement is strong scaling of one trajectory.
    """
    rows = []
    wide = Network(64, (512, 512), (32, 16), 4, inner=0.5)
    small = Network(64, (64, 64), (16, 8), 4, inner=0.5)
    for name, net, alone in (("512 x 512", wide, 92.2e-3), ("64 x 64", small, 4.06e-3)):
        size = FLOAT * n_parameters(net)["all"]
        for n in gpus:
            for parts in (1, 8):
                exchange = cluster.reduce(size, n)
                if parts > 1:  # inside a node; then parts are summed over the nodes
                    exchange = cluster.gather(size, parts) + cluster.reduce(size, parts)
                    if n > parts:
                        exchange += 2 * size / parts / cluster.network
                        exchange += cluster.latency * math.log2(n // parts)
                rows.append(
                    {
                        "case": f"prediction: FNO {name}, 16 samples a GPU",
                        "gpus": n,
                        "weights_in_parts": parts,
                        "state_gb": 3 * size / parts / 1e9,
                        "compute_ms": 1e3 * alone,
                        "exchange_ms": 1e3 * exchange,
                        "efficiency": alone / (alone + exchange),
                        # Every process reads the whole batch: inputs and targets.
                        "read_gb": 2 * FLOAT * 16 * n * math.prod(net.n_points) / 1e9,
                    }
                )
    snapshots, points, krylov, alone = 40, 256, 20, 0.2547 / 40
    field = 16.0 * points * (points // 2 + 1)
    # Each product is made orthogonal twice to the Krylov vectors before it, on every GPU.
    replicated = 4 * krylov * snapshots * field / cluster.memory
    for n in gpus:
        share = math.ceil(snapshots / n)
        busy = min(n, snapshots)
        exchange = 2 * cluster.gather(snapshots * field, n)
        exchange += 4 * (cluster.latency + share * field / cluster.network * (n > 8))
        seconds = replicated + (alone - replicated) * share / snapshots
        rows.append(
            {
                "case": "prediction: refine 40 snapshots of 256 x 256, a product",
                "gpus": n,
                "busy": busy,
                "compute_ms": 1e3 * seconds,
                "exchange_ms": 1e3 * exchange,
                "efficiency": alone / (seconds + exchange) / n,
            }
        )
    return rows
