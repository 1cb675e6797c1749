"""What `scaling.py` runs in processes of their own, each with its number of virtual devices.

    python benchmarks/scaling_cases.py costs                  # formulas beside compiled programs
    python benchmarks/scaling_cases.py grids                  # those of CG and of generating data
    python benchmarks/scaling_cases.py strong N               # times of these on N devices
    python benchmarks/scaling_cases.py train BATCH MODEL ...  # a short training, with its times

Each prints one line of JSON.
"""

import dataclasses
import json
import re
import sys
import time
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import AxisType, Mesh
from scaling_model import (
    Cost,
    Network,
    constraint_step,
    generation_step,
    multigrid_iteration,
    n_parameters,
    refinement_product,
    training_step,
)

from sciml.constraints import (
    BoxRouter,
    CoordinateBasis,
    Experts,
    HardConstraint,
    LevenbergMarquardt,
    NormalForm,
    Residual,
)
from sciml.data import NavierStokesRecipe, Window, generate_navier_stokes
from sciml.data._generate import _solve_batch, _solve_on_mesh
from sciml.linear_solvers import MultigridPreconditioner, conjugate_gradient
from sciml.neural_operators import (
    FNO,
    FiniteDifferenceResidual,
    SolverDefectResidual,
    SpatiotemporalFNO,
)
from sciml.neural_operators._refinement._newton_gmres import _newton_step
from sciml.neural_operators._refinement._space_time_system import make_system, to_unknowns
from sciml.numerics import StencilOperator
from sciml.problems import (
    NavierStokes2D,
    diffusion_operator,
    fno_forcing,
    gaussian_random_field,
)
from sciml.train import fit, forecast_loss
from sciml.train._placement import Placement
from sciml.train._step import TrainingStep

_KINDS = "all-reduce|all-gather|reduce-scatter|all-to-all|collective-permute"
_BYTES = {"pred": 1, "f32": 4, "s32": 4, "u32": 4, "f64": 8, "s64": 8, "c64": 8, "c128": 16}
FNO_NET = Network(channels=32, n_points=(64, 64), n_modes=(12, 12), n_layers=4)
SFNO_NET = Network(
    channels=16,
    n_points=(32, 32),
    n_modes=(8, 8),
    n_layers=4,
    latent_steps=12,
    time_modes=6,
    n_out=10,
)
N_IN = 4


def mesh_of(**axes: int) -> Mesh:
    """Return a mesh of the first devices."""
    names = tuple(axes)
    return jax.make_mesh(tuple(axes.values()), names, axis_types=(AxisType.Auto,) * len(names))


def collectives(text: str, *, only_loops: bool = False) -> dict[str, dict[str, float]]:
    """Return how often each kind of collective stands in a compiled program, and its bytes.

    Parameters
    ----------
    text
        The program, in HLO.
    only_loops
        Leave out what is not in the body of a loop.
    """
    found: dict[str, dict[str, float]] = {}
    for computation, line in _lines(text):
        seen = re.search(rf"= (.*?) ({_KINDS})(?:-start)?\(", line)
        if seen is None or (only_loops and computation not in _loops(text)):
            continue
        shapes = re.findall(r"(\w+)\[([\d,]*)\]", seen.group(1))
        size = sum(
            _BYTES[dtype] * np.prod([int(n) for n in dims.split(",") if n])
            for dtype, dims in shapes
        )
        entry = found.setdefault(seen.group(2), {"count": 0, "bytes": 0.0})
        entry["count"] += 1
        entry["bytes"] += float(size)
    return found


def _lines(text: str) -> Any:
    name = ""
    for line in text.splitlines():
        head = re.match(r"^(?:ENTRY )?%?([\w.\-]+) .*\{$", line)
        name = head.group(1) if head else name
        yield name, line


def _loops(text: str) -> set[str]:
    """Return the computations that bodies of loops call."""
    calls: dict[str, set[str]] = {}
    bodies: set[str] = set()
    for name, line in _lines(text):
        bodies |= set(re.findall(r"while\(.*body=%?([\w.\-]+)", line))
        called = re.findall(r"(?:calls|to_apply|condition|body)=%?([\w.\-]+)", line)
        calls.setdefault(name, set()).update(called)
    todo, inside = list(bodies), set()
    while todo:
        name = todo.pop()
        if name not in inside:
            inside.add(name)
            todo += calls.get(name, ())
    return inside


def row(case: str, mesh: Mesh | None, predicted: Cost, compiled: Any, looping: Any = None) -> dict:
    """Return a formula beside the program; of ``looping``, the collectives in its loops count."""
    said = compiled.cost_analysis()
    if looping is None:
        found = collectives(compiled.as_text())
    else:
        found = collectives(looping.as_text(), only_loops=True)
    return {
        "case": case,
        "mesh": "1" if mesh is None else " x ".join(f"{n} {k}" for k, n in mesh.shape.items()),
        "flops": predicted.flops,
        "flops_hlo": said["flops"],
        "moved": predicted.moved,
        "moved_hlo": said["bytes accessed"],
        "state": predicted.state,
        "exchanged": predicted.total_exchanged,
        "exchanged_hlo": sum(entry["bytes"] for entry in found.values()),
        "collectives": predicted.exchanged,
        "collectives_hlo": found,
    }


def network(net: Network) -> eqx.Module:
    """Return the model of the sizes."""
    key = jax.random.key(6101)
    if net.is_spatiotemporal:
        model: eqx.Module = SpatiotemporalFNO(
            net.in_channels,
            dt=0.1,
            horizon=0.1 * net.n_out,
            n_modes=(net.time_modes, *net.n_modes),
            hidden_channels=net.channels,
            n_layers=net.n_layers,
            latent_steps=net.latent_steps,
            key=key,
        )
    else:
        model = FNO(
            net.in_channels,
            net.out_channels,
            net.n_modes,
            hidden_channels=net.channels,
            n_layers=net.n_layers,
            key=key,
        )
    counted = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array)))
    if counted != n_parameters(net)["all"]:
        raise RuntimeError(f"the formula counts {n_parameters(net)}, the model has {counted}.")
    return model


def fno_loss(model: Any, batch: Any, key: Any) -> jax.Array:
    """Return the mean square of what a field to field model misses."""
    del key
    return jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2)


class Fields:
    """Batches, the same for all numbers of devices."""

    def __init__(self, net: Network, n_samples: int):
        self._net, self._n_samples = net, n_samples

    def __getitem__(self, step: int) -> Any:
        random = np.random.default_rng(step)
        if not self._net.is_spatiotemporal:
            shape = (2, self._n_samples, 1, *self._net.n_points)
            return tuple(random.standard_normal(shape, np.float32))
        # Travelling waves: the loss falls, so that differences have a way to grow.
        x, y = np.meshgrid(*(np.arange(n) / n for n in self._net.n_points), indexing="ij")
        phase = random.uniform(size=(self._n_samples, 1, 1, 1, 1))
        times = 0.05 * np.arange(N_IN + self._net.n_out).reshape(1, -1, 1, 1, 1)
        values = np.sin(2 * np.pi * (x + 2 * y + phase + times)).astype(np.float32)
        return Window(values[:, :N_IN], values[:, N_IN:], None)


def training_row(case: str, net: Network, batch: int, mesh: Mesh | None) -> dict:
    """Compile a training step and look at it."""
    loss = forecast_loss if net.is_spatiotemporal else fno_loss
    key = jax.random.key(1)
    step = TrainingStep(network(net), loss, optax.adam(1e-3), key, Placement(mesh))
    arguments = (step._leaves, step.placement.batch(Fields(net, batch)[0]), step._key)
    compiled = step._compiled.lower(*arguments, np.uint32(0)).compile()
    shape = {} if mesh is None else dict(mesh.shape)
    n = 1 if mesh is None else mesh.size
    predicted = training_step(net, batch // n, **shape)
    found = row(case, mesh, predicted, compiled)
    found["state_hlo"] = sum(leaf.addressable_shards[0].data.nbytes for leaf in step._leaves)
    return found


def refinement_row(mesh: Mesh | None, substeps: int | None) -> dict:
    """Compile a residual with its derivative in one direction."""
    n_points, n_snapshots, n_history, n_krylov = 64, 16, 8, 8
    grid = (n_points, n_points)
    problem = NavierStokes2D(grid, viscosity=1e-3, forcing=fno_forcing(grid))
    fields = [gaussian_random_field(grid, key=jax.random.key(k)) for k in range(24)]
    residual = (
        FiniteDifferenceResidual(6) if substeps is None else SolverDefectResidual(substeps=substeps)
    )
    u = jnp.stack(fields)
    system = make_system(problem, residual, u[:n_history], 0.05, n_snapshots, mesh)
    unknowns = to_unknowns(system, u[n_history:])
    arrays, static = eqx.partition(system, eqx.is_array)

    def both(arrays: Any, unknowns: jax.Array, tangent: jax.Array) -> Any:
        return jax.jvp(eqx.combine(arrays, static).evaluate, (unknowns,), (tangent,))

    def newton(arrays: Any, unknowns: jax.Array, limit: jax.Array) -> Any:
        system = eqx.combine(arrays, static)
        return _newton_step(system, unknowns, jnp.asarray(0.1), limit, n_krylov)

    compiled = jax.jit(both).lower(arrays, unknowns, unknowns).compile()
    looping = jax.jit(newton).lower(arrays, unknowns, jnp.asarray(n_krylov)).compile()
    n = 1 if mesh is None else mesh.size
    predicted = refinement_product(n_snapshots, n_history, n_points, n, substeps=substeps)
    name = "differences in time" if substeps is None else "steps of ETDRK4"
    return row(f"refine by {name}, a trial and a product", mesh, predicted, compiled, looping)


def constraint_row(mesh: Mesh | None) -> dict:
    """Compile four experts and count what a step of their loops exchanges."""
    n, n_experts, n_problems, n_points = 48, 4, 2, 4096
    basis = CoordinateBasis(lambda x, p: jnp.cos(p * jnp.arange(n) * 3 * x[0]), coordinates=("x",))
    fitted = Residual(lambda j, x, p: jnp.exp(j["u"]) - 1 - x[0] ** 2, ("u",), name="fit")
    solver = LevenbergMarquardt(newton_steps=0, form=NormalForm.gram)
    layer = HardConstraint(basis, [fitted], solver=solver)
    experts = Experts(layer, BoxRouter((0.0,), (1.0,), (n_experts,)), mesh=mesh)
    routed = experts.route({"fit": np.linspace(0, 1, n_points)[:, None]})

    def solve(p: jax.Array) -> jax.Array:
        return experts.batch(p, routed).w

    compiled = jax.jit(solve).lower(jnp.linspace(0.8, 1.3, n_problems)).compile()
    shape = {} if mesh is None else dict(mesh.shape)
    over_points = shape.get("point", 1)
    predicted = constraint_step(
        n,
        n_points // n_experts // over_points,
        problems=n_problems // shape.get("data", 1),
        experts=n_experts // shape.get("expert", 1),
        devices_of_points=over_points,
    )
    # XLA counts the body of a loop once; whitening and the first look take as much.
    predicted = dataclasses.replace(predicted, flops=3 * predicted.flops, moved=3 * predicted.moved)
    case = "constraint layer: whitening, start and a step"
    return row(case, mesh, predicted, compiled, compiled)


def grid_system(n_points: tuple[int, ...]) -> tuple[StencilOperator, jax.Array]:
    """Return a diffusion problem with a rough coefficient, and a right-hand side, in float64."""
    random = np.random.default_rng(6217)
    coefficient = jnp.asarray(10.0 ** random.uniform(-1, 1, n_points))
    b = jnp.asarray(random.standard_normal(n_points))
    return diffusion_operator(n_points, coefficient=coefficient), b


def grid_row(n_points: tuple[int, ...], mesh: Mesh | None) -> dict:
    """Compile a solve by CG with a multigrid cycle and look at its loops."""
    operator, b = grid_system(n_points)
    preconditioner = MultigridPreconditioner(operator, mesh=mesh)
    arrays, static = eqx.partition((operator, preconditioner), eqx.is_array)

    def solve(arrays: Any, b: jax.Array) -> jax.Array:
        operator, preconditioner = eqx.combine(arrays, static)
        return conjugate_gradient(
            operator, b, preconditioner=preconditioner, preconditioner_dtype=jnp.float32
        ).value

    compiled = jax.jit(solve).lower(arrays, b).compile()
    counts = () if mesh is None else mesh.devices.shape
    predicted = multigrid_iteration(n_points, preconditioner.plan, counts)
    grid = " x ".join(map(str, n_points))
    return row(f"CG with multigrid on {grid}, an iteration", mesh, predicted, compiled, compiled)


RECIPE = NavierStokesRecipe(n_points=64, n_snapshots=11, warm_up=1.0)


def generation_row(n_samples: int, mesh: Mesh | None) -> dict:
    """Compile the solution of a batch of trajectories."""
    keys = jax.random.split(jax.random.key(6221), n_samples)
    problem = RECIPE.problem()
    if mesh is None:
        lowered: Any = _solve_batch.lower(problem, RECIPE, keys)
    else:
        lowered = _solve_on_mesh.lower(problem, RECIPE, keys, mesh)
    predicted = generation_step(n_samples, RECIPE.n_points, 1 if mesh is None else mesh.size)
    case = "generation of trajectories, two steps and the start"
    return row(case, mesh, predicted, lowered.compile().compiled)


def grid_costs() -> list[dict]:
    """Return the rows of the cost model of CG and of generating data."""
    rows = []
    with jax.enable_x64(True):
        for n_points in ((512, 512), (64, 64, 64)):
            meshes = (None, mesh_of(rows=4), mesh_of(rows=2, columns=2))
            rows += [grid_row(n_points, mesh) for mesh in meshes]
    return rows + [generation_row(16, mesh) for mesh in (None, mesh_of(data=4))]


def strong(n_devices: int) -> list[dict]:
    """Return processor times of solves and of generation on so many devices, and the results."""
    rows = []
    for n_points in ((1024, 1024), (64, 64, 64)):
        with jax.enable_x64(True):
            operator, b = grid_system(n_points)
            mesh = mesh_of(rows=n_devices) if n_devices > 1 else None
            M = MultigridPreconditioner(operator, mesh=mesh)

            def solve(operator: Any = operator, b: Any = b, M: Any = M) -> Any:
                return conjugate_gradient(
                    operator, b, preconditioner=M, rtol=1e-8, preconditioner_dtype=jnp.float32
                )

            solution, seconds = processor_time(solve)
        n_steps = int(solution.stats["num_steps"])
        grid = " x ".join(map(str, n_points))
        x = np.asarray(solution.value).ravel()
        some = x[:: len(x) // 1000].tolist()
        rows.append(
            {
                "case": f"strong scaling, CG with multigrid on {grid}",
                "unit": "iteration",
                "cpu_ms": 1e3 * seconds / n_steps,
                "steps": n_steps,
                "values": some,
            }
        )
    mesh = mesh_of(data=n_devices) if n_devices > 1 else None

    def generate() -> Any:
        # Four together on each device.
        return generate_navier_stokes(
            None,
            n_train=16,
            seed=6221,
            recipe=RECIPE,
            batch_size=4 * n_devices,
            mesh=mesh,
            progress=False,
        )

    splits, seconds = processor_time(generate)
    rows.append(
        {
            "case": "strong scaling, generation of 16 trajectories, 4 together on a device",
            "unit": "trajectory",
            "cpu_ms": 1e3 * seconds / 16,
            "steps": None,
            "values": splits.train.values[:, -1].ravel()[::64].tolist(),
        }
    )
    return rows


def processor_time(function: Any, repeats: int = 3) -> tuple[Any, float]:
    """Return what a function returns and the median of its processor seconds after a first call."""
    jax.block_until_ready(eqx.filter(function(), eqx.is_array))
    seconds = []
    for _ in range(repeats):
        begin = time.process_time()
        result = function()
        jax.block_until_ready(eqx.filter(result, eqx.is_array))
        seconds.append(time.process_time() - begin)
    return result, float(np.median(seconds))


def costs() -> list[dict]:
    """Return all rows of the cost model; float64 only where it is needed."""
    rows = []
    layouts = (None, mesh_of(data=4), mesh_of(data=2, model=2), mesh_of(model=4))
    for name, net in (("FNO", FNO_NET), ("SFNO", SFNO_NET)):
        rows += [training_row(f"{name}, a training step", net, 8, mesh) for mesh in layouts]
    with jax.enable_x64(True):
        for substeps in (None, 1):
            rows += [refinement_row(mesh, substeps) for mesh in (None, mesh_of(time=4))]
        meshes = (None, mesh_of(expert=4), mesh_of(data=2, expert=2), mesh_of(expert=2, point=2))
        rows += [constraint_row(mesh) for mesh in meshes]
    return rows


def train(batch: int, model: int, steps: int, mesh: Mesh | None) -> dict:
    """Train the small SFNO for some steps; times are those between two batches."""
    batches = Fields(SFNO_NET, batch)
    asked: list[tuple[float, float]] = []

    class Timed:
        def __getitem__(self, step: int) -> Any:
            asked.append((time.perf_counter(), time.process_time()))
            return batches[step]

    solution = fit(
        network(SFNO_NET),  # pyright: ignore[reportArgumentType]
        Timed(),
        optimizer=optax.adam(3e-3),
        n_steps=steps,
        key=jax.random.key(5),
        mesh=mesh,
        log_every=1,
        progress=False,
    )
    return {
        "devices": jax.device_count(),
        "losses": solution.stats["history"]["loss"][1].tolist(),
        "seconds": np.diff(asked, axis=0)[3:, 0].tolist(),
        "cpu_seconds": np.diff(asked, axis=0)[3:, 1].tolist(),
    }


def main(words: list[str]) -> None:
    """Do what the first word says."""
    if words[0] in ("costs", "grids"):
        print(json.dumps(costs() if words[0] == "costs" else grid_costs()))
        return
    if words[0] == "strong":
        print(json.dumps(strong(int(words[1]))))
        return
    batch, model, steps = map(int, words[1:4])
    if len(words) > 4:
        jax.distributed.initialize(words[4], num_processes=int(words[5]), process_id=int(words[6]))
    n = jax.device_count()
    mesh = None if n == 1 else mesh_of(data=n // model, model=model)
    print(json.dumps(train(batch, model, steps, mesh)))


if __name__ == "__main__":
    main(sys.argv[1:])
