"""Why experts that do not know of each other lose accuracy, and what coupling them gives.

    python benchmarks/constraints_coupling.py            # some minutes on one core
    python benchmarks/constraints_coupling.py --quick    # a few steps each; nothing is written

Diffusion-sorption with plain inputs, where four independent experts stay above the error of one.
First with the network as it is initialised: the nearest fields in the span of the basis functions,
solves at loose and at tight tolerances, with true values handed to the experts where their parts
meet, and with all experts' unknowns in one problem (`couple_experts`). How large the jumps between
neighbours are, and how much of the training loss they make. Then training, for the same number of
steps, points and starts: independent, coupled, one expert with as many functions as one of four,
and with as many as all four, each from three first networks. One row has ends that are exact
conditions.
"""

import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import tyro
from constraints_training import Method, boxes, evaluate, figures, layer, mixture, train
from constraints_training import Settings as Training
from diffusion_sorption import (
    LARGEST_START,
    Features,
    basis_of,
    evaluation_grid,
    points,
    reference,
    residuals,
)
from jax.scipy.ndimage import map_coordinates

from sciml.constraints import (
    Condition,
    CoordinateBasis,
    Experts,
    HardConstraint,
    LevenbergMarquardt,
    Residual,
    couple_experts,
)
from sciml.core import Target, format_table, write_report

RESULT = Path(__file__).parent / "results" / "constraints_coupling.json"


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is run; the defaults are those of the published result file."""

    seed: int = 23
    """Of points, starts and the first of the networks."""
    networks: int = 3
    """Training runs of each method."""
    steps: int = 200
    n_test: int = 8
    quick: bool = False
    out: Path = RESULT


INDEPENDENT = Method("4 experts, independent", 4, 16, plain=True)
COUPLED = Method("4 experts, coupled", 4, 16, plain=True, coupled=True)
ONE = Method("1 expert, 16 functions", 1, 16, plain=True)
WIDE = Method("1 expert, 64 functions", 1, 64, plain=True)


def nearest(rows, truth, starts, n_basis, seed):
    """Report the distance of the truth from the span of the functions, one part and four."""
    basis = basis_of(Features(n_basis, plain=True, key=jax.random.key(seed)))
    grid = evaluation_grid(truth)
    # What does not change is an argument, too: XLA would fold constants for minutes.
    tables = eqx.filter_jit(lambda b, x, u0: b.tables(x, u0, ("u",)).basis["u"])
    shares = np.asarray(jax.vmap(boxes(4).weights)(grid))
    for n_parts in (1, 4):
        found = []
        for u0, values in zip(starts, truth.values, strict=True):
            table = np.asarray(tables(basis, grid, jnp.asarray(u0)))
            if n_parts == 4:
                table = (shares[:, :, None] * table[:, None, :]).reshape(len(table), -1)
            weights = np.linalg.lstsq(table, values.ravel() - u0, rcond=1e-13)[0]
            found.append((u0 + table @ weights).reshape(values.shape))
        name = f"nearest in the span, {n_basis} functions on {n_parts} part(s), untrained"
        rows.append({"case": name} | figures(np.array(found), truth))
        print(rows[-1], flush=True)


def solved(rows, name, experts, truth, parameters, chosen):
    """Solve for every start, report errors, and return the fields."""
    routed, grid = experts.route(chosen), evaluation_grid(truth)

    @eqx.filter_jit
    def run(experts, routed, grid, p):
        field = experts(p, routed)
        return field, field.jet(grid, ("u",))["u"]

    pairs = [run(experts, routed, grid, p) for p in parameters]
    values = np.array([np.asarray(v).reshape(truth.values.shape[1:]) for _, v in pairs])
    stats = [field.stats for field, _ in pairs]

    def median(key):
        return float(np.median([s[key] for s in stats]))

    rows.append(
        {
            "case": name,
            "condition_number": median("condition_number"),
            "lm_steps": median("n_steps"),
            "converged": float(np.mean([s["converged"] for s in stats])),
            "residual_norm": median("residual_norm"),
            "exact_defect": float(np.max([s["exact_defect"] for s in stats])),
        }
        | figures(values, truth)
    )
    print(rows[-1], flush=True)
    return [field for field, _ in pairs], values


def handed_values(net, truth, starts):
    """Return experts that are told the true values where parts meet, points and parameters."""

    def true_value(table, x):
        where = jnp.stack([x[0] * table.shape[0] - 1, x[1] * table.shape[1] - 0.5])
        return map_coordinates(table, where[:, None], order=1, mode="nearest")[0]

    blocks = [
        Residual(
            lambda j, x, p, f=block.function: f(j, x, p[0]),
            block.needs,
            name=block.name,
            everywhere=block.everywhere,
            weight=block.weight,
        )
        for block in residuals()
    ]
    blocks.append(
        Residual(lambda j, x, p: j["u"] - true_value(p[1], x), ("u",), name="meeting", weight=10.0)
    )
    basis = CoordinateBasis(lambda x, p: net(x, p[0]), lift=lambda x, p: p[0])
    times = np.linspace(0.2, 1, 40) ** 2
    lines = [(edge + side) for edge in (0.25, 0.5, 0.75) for side in (-0.03, 0.03)]
    where = np.concatenate([np.stack([times, np.full(40, line)], 1) for line in lines])
    experts = Experts(HardConstraint(basis, blocks, solver=LevenbergMarquardt()), boxes(4))
    parameters = [
        (jnp.asarray(u0), jnp.asarray(values))
        for u0, values in zip(starts, truth.values, strict=True)
    ]
    return experts, {"meeting": jnp.asarray(where)}, parameters


def jumps(rows, fields, starts):
    """Report jumps between neighbours, and the share of the loss in the zones where they mix."""
    times = np.linspace(0.05, 1, 60)
    edges = [jnp.asarray(np.stack([times, np.full(60, edge)], 1)) for edge in (0.25, 0.5, 0.75)]
    fresh = points(4000, 5)["pde"]
    equation = residuals()[0]
    near = np.min(np.abs(np.asarray(fresh)[:, 1:] - np.array([[0.25, 0.5, 0.75]])), 1) < 0.0375
    sizes, shares = [], []
    for field, _ in zip(fields, starts, strict=True):
        squares = np.asarray(field.residual(equation, fresh)).ravel() ** 2
        shares.append(squares[near].sum() / squares.sum())
        for k, where in enumerate(edges):
            each = [
                np.asarray(
                    field.basis.combination(
                        field.w[i : i + 1], None, where, field.parameters, ("u",)
                    )["u"]
                )
                for i in (k, k + 1)
            ]
            sizes.append(np.linalg.norm(each[1] - each[0]) / np.linalg.norm(each[0]))
    rows.append(
        {
            "case": "independent, untrained: jump between neighbours over the value there",
            "median": float(np.median(sizes)),
            "q10": float(np.quantile(sizes, 0.1)),
            "q90": float(np.quantile(sizes, 0.9)),
            "share_of_loss_where_parts_mix": float(np.median(shares)),
            "share_of_points_there": float(near.mean()),
        }
    )
    print(rows[-1], flush=True)


def untrained(rows, truth, starts, settings):
    """Take the error apart with the network as it is initialised."""
    for n_basis in (16, 64):
        nearest(rows, truth, starts, n_basis, settings.seed)
    net = Features(16, plain=True, key=jax.random.key(settings.seed))
    chosen = points(3200, settings.seed + 99)
    parameters = [jnp.asarray(u0) for u0 in starts]
    tight = HardConstraint(
        basis_of(net), residuals(), solver=LevenbergMarquardt(gtol=1e-12, newton_steps=5)
    )
    fields, at_tight = solved(
        rows, "independent, gtol 1e-12, QR", Experts(tight, boxes(4)), truth, parameters, chosen
    )
    _, at_loose = solved(
        rows, "independent, gtol 1e-6, Gram", mixture(INDEPENDENT, net), truth, parameters, chosen
    )
    rows[-1]["difference_from_tight"] = float(
        np.linalg.norm(at_loose - at_tight) / np.linalg.norm(at_tight)
    )
    jumps(rows, fields, starts)
    experts, more, pairs = handed_values(net, truth, starts)
    solved(rows, "true values where parts meet", experts, truth, pairs, chosen | more)


def exact_ends(net):
    """Return coupled experts whose left and right ends are exact at a few times."""
    kept = {block.name: block for block in residuals()}
    ends = [
        Residual(
            kept[name].function,
            kept[name].needs,
            name=name,
            condition=Condition.exact,
            everywhere=True,
        )
        for name in ("left", "right")
    ]
    each = layer(COUPLED, net)
    exact = HardConstraint(
        each.basis,
        [kept["pde"], kept["start"], *ends],
        solver=each.solver,
        adjoint=each.adjoint,
    )
    return Experts(couple_experts(exact, boxes(4)), boxes(1))


def main(settings: Settings) -> None:
    """Run everything, print a table, write the result file."""
    jax.config.update("jax_enable_x64", True)
    rng = np.random.default_rng([settings.seed, 2])
    n_test = 2 if settings.quick else settings.n_test
    starts = rng.uniform(0, LARGEST_START, n_test)
    truth = reference(starts)
    rows = []
    training = Training(
        seed=settings.seed, steps=3 if settings.quick else settings.steps, n_test=n_test
    )
    untrained(rows, truth, starts, settings)
    report(settings, rows)
    seeds = [settings.seed + i for i in range(1 if settings.quick else settings.networks)]
    runs = [
        (method, dataclasses.replace(training, seed=seed), "trained")
        for method in (COUPLED, INDEPENDENT, ONE, WIDE)
        for seed in seeds
    ]
    for method, how, name in runs:
        model, took = train(method, how)
        found, record = evaluate(method, model, how, truth)
        row = {"case": f"{method.name}, {name}", "seed": how.seed}
        rows.append(row | figures(found, truth) | record | took)
        print(rows[-1], flush=True)
        report(settings, rows)
        if method is COUPLED and how == training:
            times = jnp.asarray(np.linspace(0.15, 1, 8) ** 2)
            ends = {
                name: jnp.stack([times, jnp.full_like(times, place)], 1)
                for name, place in (("left", 0.0), ("right", 1.0))
            }
            chosen = points(3200, settings.seed + 99) | ends
            solved(
                rows,
                "4 experts, coupled, trained, ends exact at 8 times",
                exact_ends(model),
                truth,
                [jnp.asarray(u0) for u0 in starts],
                chosen,
            )
    keys = {
        k: k
        for k in ("case", "seed", "median", "q10", "q90", "condition_number", "cpu_ms_per_step")
    }
    print(format_table(rows, keys))
    for target in targets_of(rows):
        print(f"{'holds' if target.holds else 'MISSED':7} {target.as_record()}")


def targets_of(rows):
    """Return what is asked of coupled experts, and what explains the others."""

    def figure(name, key="median"):
        found = [row[key] for row in rows if row["case"] == name]
        return float(np.median(found)) if found else None

    coupled, one = figure("4 experts, coupled, trained"), figure("1 expert, 16 functions, trained")
    independent = figure("4 experts, independent, trained")
    return [
        Target("median relative L2, 4 coupled experts, plain inputs", coupled, at_most=0.04),
        Target("median relative L2, 4 independent experts", independent, at_most=0.04),
        Target(
            "error of 1 expert over that of 4 coupled",
            one / coupled if one and coupled else None,
            at_least=1.0,
        ),
        Target(
            "defect of exact ends",
            figure("4 experts, coupled, trained, ends exact at 8 times", "exact_defect"),
            at_most=1e-12,
        ),
    ]


def report(settings, rows) -> None:
    """Write what there is so far."""
    if settings.quick:
        return
    write_report(
        settings.out,
        command="python benchmarks/constraints_coupling.py",
        rows=rows,
        targets=targets_of(rows),
        settings={
            "seed": settings.seed,
            "networks": settings.networks,
            "steps": settings.steps,
            "n_test": settings.n_test,
            "batch": Training().batch,
            "n_points": Training().n_points,
            "right_end": "u = -D u_x",
        },
    )


if __name__ == "__main__":
    main(tyro.cli(Settings))
