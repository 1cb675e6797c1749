"""The front door of training."""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import optax
from jax.sharding import Mesh
from jaxtyping import PyTree

from ..core import KeyArray, PathLike, Solution, check_count, check_key
from ..core._serialisation import versions
from ..numerics import full_precision
from ._batches import as_batch_source
from ._losses import forecast_loss
from ._own_samples import with_own_samples
from ._placement import Placement
from ._run_folder import has_checkpoint, remove_run, run_lock, write_settings
from ._session import Session
from ._step import TrainingStep
from ._validation import as_validator


@full_precision
def fit(
    model: PyTree,
    batches: Any,
    *,
    optimizer: optax.GradientTransformation,
    n_steps: int,
    key: KeyArray,
    loss: Callable[..., Any] = forecast_loss,
    run_dir: PathLike | None = None,
    resume: bool = False,
    overwrite: bool = False,
    validation: Any = None,
    validate_every: int | None = None,
    checkpoint_every: int = 500,
    log_every: int = 10,
    config: Mapping[str, Any] | None = None,
    mesh: Mesh | None = None,
    progress: bool = True,
    throw: bool = True,
) -> Solution:
    """Train any Equinox model on any source of batches.

    All floating-point arrays of the model are trained, those of NumPy included; what must stay
    fixed belongs into static fields, or behind `jax.lax.stop_gradient`.

    With a ``run_dir`` the run can be killed at any moment and resumed: it then ends with the same
    weights, to the last bit, as if it had not been interrupted (on one machine and with the same
    versions).

    Parameters
    ----------
    model
        The start. It is not changed.
    batches
        ``batches[step]`` for ``step`` = 0, 1, 2, ... (as `sciml.data.WindowBatches`), a list of
        batches, which is repeated, or another iterable. Batches of one shape cost one compilation.
        Data larger than the memory are read ahead: ``sciml.data.open_dataset(path).windows(...)``.
    optimizer
        Any optax gradient transformation, for instance `one_cycle_adam`.
    n_steps
        Steps of the whole run, those before a resumption included.
    key
        A typed key; step ``k`` uses ``fold_in(key, k)``.
    loss
        ``loss(model, batch, key) -> scalar``, or a pair of the scalar and a dictionary of scalars
        to log.
    run_dir
        Folder for ``config.json``, ``metrics.jsonl``, ``checkpoint/`` and ``best/``;
        ``sciml.load(run_dir / "checkpoint")`` gives the model. None keeps nothing.
    resume
        Go on from the checkpoint in ``run_dir``; without one, start. The other arguments must be
        those of the run; a larger ``n_steps`` prolongs it. What the functions ``loss`` and
        ``optimizer`` compute, and the batches, cannot be compared and must be the same, too.
    overwrite
        Replace an earlier run in ``run_dir``: its checkpoints and log are removed.
    validation
        A function of the model that returns a figure (lower is better) or a dictionary of
        figures, of which the first decides; or batches, whose mean loss is taken: a list, or an
        object with ``batches[step]`` and ``steps_per_epoch``. The best model goes to
        ``run_dir/best``.
    validate_every
        Steps between validations; by default ``checkpoint_every``. There is one at the end, too.
    checkpoint_every
        Steps between checkpoints. There is one at the end, too.
    log_every
        Steps between lines of the log. The first and the last step are logged, too.
    config
        JSON values that define the run (sizes, seeds, names of data). They go into
        ``config.json``, and a resumed run must have the same.
    mesh
        Train on these devices (``jax.make_mesh``), which share the samples of each batch. The axes
        are called ``"data"`` and ``"model"``: devices along the second also share large parameters
        and their moments, and put the parameters together in each step. The losses are those of one
        device but for rounding. After ``jax.distributed.initialize()`` every process calls `fit`
        with the same arguments and batches, on a folder that all of them see; the first one writes.
        Of the windows of `sciml.data` each process reads only the samples of its own devices (if
        their ``transform`` is a `sciml.data.SampleTransform`, or None); other batches are made as a
        whole by each of them. Validation on batches is parted as well where their size allows.
        A checkpoint holds whole arrays and is resumed on any number of devices.
    progress
        Show a bar with rate, time left and loss.
    throw
        Raise when training stops early (see below), instead of returning the failed result.

    Returns
    -------
    Solution
        ``value`` is the trained model. ``stats`` has ``n_steps`` (done so far), ``loss`` (of the
        last step), ``seconds`` (over all sessions), ``best_value`` and ``best_step`` of the
        validation, if any, and ``history``, in the form of `read_metrics`.

    Raises
    ------
    RuntimeError
        If loss, gradient or update are not finite: the message names step and batch. The update
        is not applied and the last checkpoint is kept. With ``throw=False`` the result is
        ``RESULTS.nonfinite_loss`` and the value is the model from before that step. Also if
        another process is using ``run_dir``.
    KeyboardInterrupt
        After Ctrl-C, when the step that runs is done and a checkpoint is written. With
        ``throw=False`` the result is ``RESULTS.interrupted`` instead.
    FileExistsError
        If ``run_dir`` holds a checkpoint, and neither ``resume`` nor ``overwrite`` is set.
    ValueError
        If the checkpoint belongs to a run with another model, optimiser, key or configuration.
    OSError
        If a checkpoint or the log cannot be written; the checkpoint before is kept.

    Examples
    --------
    >>> import equinox as eqx, jax, jax.numpy as jnp, optax
    >>> key = jax.random.key(11)
    >>> model = eqx.nn.Linear(2, 1, key=key)
    >>> x = jax.random.normal(key, (64, 2))
    >>> batch = (x, x @ jnp.array([[3.0], [-1.0]]))
    >>> def loss(model, batch, key):
    ...     return jnp.mean((jax.vmap(model)(batch[0]) - batch[1]) ** 2)
    >>> solution = fit(
    ...     model, [batch], loss=loss, optimizer=optax.adam(0.1), n_steps=200, key=key,
    ...     progress=False,
    ... )
    >>> bool(jnp.allclose(solution.value.weight, jnp.array([[3.0, -1.0]]), atol=1e-2))
    True
    """
    n_steps = check_count("n_steps", n_steps)
    checkpoint_every = check_count("checkpoint_every", checkpoint_every)
    log_every = check_count("log_every", log_every)
    if validate_every is None:
        validate_every = checkpoint_every
    validate_every = check_count("validate_every", validate_every)
    check_key(key)
    if not isinstance(optimizer, optax.GradientTransformation):
        raise TypeError(
            f"`optimizer` must be an optax transformation such as optax.adam(1e-3), got "
            f"{optimizer!r}."
        )
    if resume and overwrite:
        raise ValueError("pass `resume=True` or `overwrite=True`, not both.")
    if run_dir is None and (resume or overwrite):
        raise ValueError("`resume` and `overwrite` need a `run_dir`.")
    config = dict(config or {})

    placement = Placement(mesh)
    session = Session(
        source=with_own_samples(as_batch_source(batches), placement),
        step=TrainingStep(model, loss, optimizer, key, placement),
        validator=as_validator(validation, loss, key, placement),
        cadence=(checkpoint_every, validate_every, log_every),
        n_steps=n_steps,
        key=key,
        config=config,
        show=progress,
    )
    if run_dir is None:
        return session.run(throw)
    folder = Path(run_dir)
    # Of several processes the first looks after the folder; the others read from it when it is
    # ready, and write nothing.
    with run_lock(folder) if placement.writes else contextlib.nullcontext():
        if placement.writes and has_checkpoint(folder) and not resume:
            if not overwrite:
                raise FileExistsError(
                    f"{str(folder)!r} holds the checkpoint of an earlier run. Pass `resume=True` "
                    "to go on with it, `overwrite=True` to replace it, or choose another `run_dir`."
                )
            remove_run(folder)
        placement.wait("the folder of the run is ready")
        session.enter(folder)
        placement.wait("the checkpoint was read")
        if placement.writes:
            settings = {
                "config": config,
                "model": session.description.encoded,
                "loss": getattr(loss, "__qualname__", type(loss).__qualname__),
                "n_steps": n_steps,
                "checkpoint_every": checkpoint_every,
                "validate_every": validate_every,
                "log_every": log_every,
                "versions": versions(),
            }
            write_settings(folder, settings)
        return session.run(throw)
