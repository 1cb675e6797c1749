"""The examples below each ``--help``."""

from collections.abc import Sequence

_DEBUG = "When something fails, --debug (anywhere) shows the traceback."

# The longest entry whose words open the command line is shown.
_EPILOGS: dict[tuple[str, ...], str] = {
    (): f"""\
Start with:
  sciml demo                                  train, compare, draw: about two minutes
  sciml train sfno                            train on the shipped Navier-Stokes sample
  sciml predict runs/sfno navier-stokes --out forecast.npz
  sciml refine runs/sfno navier-stokes --out refined.npz
  sciml solve poisson.mtx b.npy --out x.npy   a linear system from files
  sciml data info my_file.mat                 what a data file holds
  sciml info                                  versions and devices

`sciml COMMAND --help` explains a command. {_DEBUG}
Compiled programs are kept in ~/.cache/sciml; SCIML_COMPILATION_CACHE=off turns that off.""",
    ("demo",): """\
Examples:
  sciml demo                                  the whole comparison, into runs/demo
  sciml demo --quick                          half a minute, to see that it works
  sciml demo --seed 31 --run-dir runs/again   other weights, other folder

It prints one table and leaves results.json, figures/summary.png and the trained model.""",
    ("train",): """\
Examples:
  sciml train sfno                            the shipped sample, a minute
  sciml train sfno --help                     all options

`sciml predict` uses what was trained; `sciml info runs/sfno` describes it.""",
    ("train", "sfno"): """\
Examples:
  sciml train sfno --steps 3000 --width 16
  sciml train sfno --data flow.h5 --n-in 4 --n-out 20 --n-points 32 --modes 6 10 10
  sciml train sfno --steps 3000 --width 16 --resume       after Ctrl-C or a crash
  sciml train sfno --data large.h5 --out-of-core          data larger than the memory
  sciml train sfno --devices 4 --batch-size 16            four GPUs of this machine
  srun sciml train sfno --batch-size 64 --distributed     all GPUs of a Slurm job

The run folder gets config.json, metrics.jsonl, checkpoint/, best/ and figures/training.png.""",
    ("train", "fno3d"): """\
Examples:
  sciml train fno3d --learning-rate 5e-3
  sciml train fno3d --data flow.h5 --n-in 4 --n-out 20 --modes 8 10 10

The run folder gets config.json, metrics.jsonl, checkpoint/, best/ and figures/training.png.""",
    ("train", "fno2d"): """\
Examples:
  sciml train fno2d --n-out 10                train through ten steps of its own output
  sciml train fno2d --data flow.h5 --n-in 4 --n-out 10 --modes 10 10

The run folder gets config.json, metrics.jsonl, checkpoint/, best/ and figures/training.png.""",
    ("train", "noda"): """\
Examples:
  sciml train noda --steps 600                16 sensors on the grid of the shipped sample
  sciml train noda --data flow.h5 --sensor-stride 8 --noise 0.05 --modes 10 10

The table says how well trajectories are followed from a first guess of zero.""",
    ("train", "t1"): """\
Examples:
  sciml train t1                              the shipped sample, in seconds
  sciml train t1 --tolerance 0.01             as many modes as leave 1 % of the fields
  sciml train t1 --data cavity.h5 --n-in 1 --n-out 10 --basis cosine --modes 20 20

All snapshots are encoded once; the grid (--n-points) does not change the time of a step.""",
    ("train", "giorom"): """\
Examples:
  sciml train giorom water.npz --samples 150 --mirror
  sciml train giorom water.npz --samples 40 75 150 300 --radius 0.09 --steps 4000
  sciml predict runs/giorom water.npz --out motion.npz --animation motion.gif

The table has single steps and rollouts beside no motion, constant velocity and free fall.""",
    ("predict",): """\
Examples:
  sciml predict runs/demo navier-stokes --out forecast.npz
  sciml predict runs/demo navier-stokes --out fine.npz --n-points 128 --figure fine.png
  sciml predict runs/fno2d/best my_flow.h5 --out long.h5 --n-steps 200 --window 10

If the file holds the snapshots that are predicted, the errors are printed.""",
    ("refine",): """\
Examples:
  sciml refine runs/demo navier-stokes --out refined.npz --n-points 32 --n-steps 10
  sciml refine forecast.npz navier-stokes --out refined.npz --residual defect
  sciml refine runs/fno2d/best flow.mat --out refined.h5 --viscosity 1e-3 --forcing fno \\
      --n-steps 100 --window 10 --figure refined.png

Where the equation is known, marching it costs less; the table has that row, too.""",
    ("solve",): """\
Examples:
  sciml solve poisson.mtx                     right-hand side of ones; only the table
  sciml solve poisson.mtx b.npy --out x.npy --rtol 1e-10
  sciml solve A.npz b.mtx --out x.npy --preconditioner jacobi --maxiter 500

Seconds include compilation, which is kept: the same shape is faster the next time.""",
    ("data",): """\
Examples:
  sciml data info navier-stokes
  sciml data convert ns_V1e-3_N5000_T50.mat ns.h5 --samples 1000
  sciml data generate navier-stokes --out train.h5 --n-train 128

Known layouts: FNO .mat, PDEBench, The Well, and sciml's own .h5 and .npz.""",
    ("data", "generate"): """\
Examples:
  sciml data generate navier-stokes --out train.h5 --n-train 1000 --n-test 100
  sciml data generate navier-stokes --out hard.h5 --viscosity 1e-4 --n-points 128 \\
      --solver-dt 0.02 --warm-up 0

An interrupted run is taken up by the same command.""",
    ("data", "info"): """\
Examples:
  sciml data info navier-stokes
  sciml data info 2D_diff-react.h5 --samples 10 --periodic no""",
    ("data", "convert"): """\
Examples:
  sciml data convert ns_V1e-3_N5000_T50.mat ns.h5 --samples 1000
  sciml data convert fine.h5 coarse.npz --n-points 32""",
    ("info",): """\
Examples:
  sciml info                                  versions, devices, precision, cache
  sciml info runs/demo                        a run: model, settings, how far it got
  sciml info data.h5                          a data file""",
}


def epilog(words: Sequence[str]) -> str:
    """Return the examples for a command line.

    Examples
    --------
    >>> epilog(["data", "info", "--help"]).splitlines()[1]
    '  sciml data info navier-stokes'
    """
    for length in range(len(words), 0, -1):
        found = _EPILOGS.get(tuple(words[:length]))
        if found is not None:
            return found
    return _EPILOGS[()]
