"""The devices of a training: a mesh in one process, or over several that find one another."""

import contextlib
import os
import re
from collections.abc import Iterator
from typing import Any

import jax
from jax.sharding import AxisType, Mesh

from ._device_options import DeviceOptions
from ._errors import UsageError

_VARIABLES = {
    "coordinator_address": "JAX_COORDINATOR_ADDRESS",
    "num_processes": "JAX_NUM_PROCESSES",
    "process_id": "JAX_PROCESS_ID",
}
# The others wait at their end for the first, which still evaluates and draws. One that has died is
# not waited for: its heartbeat is missed before.
_WAIT_AT_END = 24 * 3600
# How failed exchanges between processes begin, on CPUs and on GPUs.
_LOST = re.compile(r"Gloo|NCCL|[Cc]oordination|Connection (closed|reset)|heartbeat")


@contextlib.contextmanager
def training_devices(options: DeviceOptions, batch_size: int) -> Iterator[Mesh | None]:
    """Give the mesh to train on, or None for the default device.

    Inside, of several processes only the first prints. This comes before anything else that JAX
    does in the process.

    Parameters
    ----------
    options
        Of the command.
    batch_size
        Samples a step, which the devices share.

    Raises
    ------
    UsageError
        If the options contradict one another, the machine or the batch.
    RuntimeError
        If another process is lost while training goes on.
    """
    _check(options)
    if options.distributed:
        _join(options)
    mesh = _mesh(options, batch_size)
    with contextlib.ExitStack() as stack:
        if jax.process_index() > 0:
            nowhere = stack.enter_context(open(os.devnull, "w"))
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        try:
            yield mesh
        except Exception as error:
            if jax.process_count() == 1 or not _LOST.search(str(error)):
                raise
            raise RuntimeError(
                f"another of the {jax.process_count()} processes has ended or cannot be reached "
                f"({str(error)[:200]}). The last checkpoint is kept: see why the other ended, then "
                "start all processes again with --resume."
            ) from error


def _check(options: DeviceOptions) -> None:
    for name in ("devices", "shard_weights", "num_processes", "heartbeat_timeout"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}.")
    if not options.distributed:
        for name in _VARIABLES:
            if getattr(options, name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} is for several processes: add --distributed."
                )
    elif options.devices is not None:
        raise UsageError(
            "--distributed trains on all devices of all processes: leave out --devices. "
            "CUDA_VISIBLE_DEVICES chooses among those of a machine."
        )


def _join(options: DeviceOptions) -> None:
    """Find the other processes."""
    address = options.coordinator_address or os.environ.get(_VARIABLES["coordinator_address"])
    n = _number(options.num_processes, "num_processes")
    k = _number(options.process_id, "process_id")
    if k is not None and n is not None and not 0 <= k < n:
        raise UsageError(f"--process-id must be from 0 to {n - 1} with {n} processes, got {k}.")
    if address is not None and not re.fullmatch(r".+:\d+", address):
        raise UsageError(f"--coordinator-address must be host:port, got {address!r}.")
    try:
        jax.distributed.initialize(
            address,
            num_processes=n,
            process_id=k,
            heartbeat_timeout_seconds=options.heartbeat_timeout,
            shutdown_timeout_seconds=_WAIT_AT_END,
        )
    except (ValueError, TypeError) as error:
        named = "; ".join(
            f"--{name.replace('_', '-')} or {variable}" for name, variable in _VARIABLES.items()
        )
        raise UsageError(
            f"--distributed does not know the other processes ({error}) Start this command under "
            f"Slurm (srun), Open MPI (mpirun) or Kubernetes, or say {named}."
        ) from error


def _number(given: int | None, name: str) -> int | None:
    if given is not None:
        return given
    said = os.environ.get(_VARIABLES[name])
    if said is None:
        return None
    if not said.strip().isdecimal():
        raise UsageError(f"{_VARIABLES[name]} must be a whole number, got {said!r}.")
    return int(said)


def _mesh(options: DeviceOptions, batch_size: int) -> Mesh | None:
    if not options.distributed and options.devices is None and options.shard_weights == 1:
        return None
    wanted = options.devices
    if wanted is None:
        wanted = len(jax.devices()) if options.distributed else options.shard_weights
    found = first_devices(wanted)
    parts = options.shard_weights
    if wanted % parts:
        raise UsageError(
            f"--shard-weights {parts} must divide the {wanted} devices that train together."
        )
    if batch_size % (wanted // parts):
        raise UsageError(
            f"--batch-size {batch_size} cannot be parted evenly over {wanted // parts} groups of "
            f"devices: take a multiple of that."
        )
    return jax.make_mesh(
        (wanted // parts, parts),
        ("data", "model"),
        axis_types=(AxisType.Auto, AxisType.Auto),
        devices=found,
    )


def first_devices(n: int) -> list[Any]:
    """Return so many devices.

    Raises
    ------
    UsageError
        If JAX does not see as many.
    """
    found = jax.devices()
    if n > len(found):
        hint = ""
        if found[0].platform == "cpu":
            hint = f" XLA_FLAGS=--xla_force_host_platform_device_count={n} makes virtual ones."
        raise UsageError(
            f"{n} devices are asked for and JAX sees {len(found)} ({found[0].platform}).{hint}"
        )
    return found[:n]
