"""On which devices ``sciml train`` works; `_training_devices` finds them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class DeviceOptions:
    """Devices that train together, in one process or in several."""

    devices: int | None = None
    """Part each batch over so many devices of this machine. By default one trains; with
    --distributed all devices of all processes do."""
    shard_weights: int = 1
    """Keep large weights and their moments in so many parts, each on another device."""
    distributed: bool = False
    """Train together with other processes, each started by the same command. Slurm, Open MPI and
    Kubernetes tell JAX about them; elsewhere the three options that follow do, or
    JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID. The first process prints and
    writes; all must see the run folder and the data."""
    coordinator_address: str | None = None
    """Host and a free port of the first process, as host:port."""
    num_processes: int | None = None
    """How many processes there are."""
    process_id: int | None = None
    """Which of them this is, from 0."""
    heartbeat_timeout: int = 100
    """Seconds after which a process that no longer answers ends the others as well; then start all
    of them again with --resume."""
