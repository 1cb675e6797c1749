"""What `scaling.py` runs to see how much each process reads: a training on windows in a file.

    python benchmarks/scaling_reading.py PATH BATCH STEPS whole|parted [ADDRESS PROCESSES PROCESS]

It prints one line of JSON. Bytes are those that the system counts for the thread that reads ahead
(``rchar`` of ``/proc/thread-self/io``), from one batch to the next.
"""

import json
import sys
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from scaling_cases import mesh_of

from sciml.data import Window, open_dataset
from sciml.train import fit

N_IN, N_OUT = 4, 1


class Meter:
    """An augmentation that changes nothing and notes what its thread has read."""

    def __init__(self):
        self.read: list[int] = []
        self.samples: list[int] = []

    def draw(self, n_samples: int, generator: np.random.Generator) -> np.ndarray:
        """Draw nothing."""
        del generator
        return np.zeros(n_samples)

    def apply_drawn(self, window: Window, drawn: np.ndarray) -> Window:
        """Take the reading."""
        del drawn
        io = Path("/proc/thread-self/io").read_text()
        self.read.append(int(io.split("rchar:")[1].split()[0]))
        self.samples.append(len(window.inputs))
        return window

    def __call__(self, window: Window, generator: np.random.Generator) -> Window:
        """Take the reading."""
        return self.apply_drawn(window, self.draw(len(window.inputs), generator))


def loss(model: eqx.nn.Linear, window: Window, key: Any) -> jax.Array:
    """Scale the last snapshot: reading is what matters here."""
    del key
    return jnp.mean((model.weight[0, 0] * window.inputs[:, -1:] - window.targets) ** 2)


def main(words: list[str]) -> None:
    """Train and print."""
    path, batch, steps, kind = words[0], int(words[1]), int(words[2]), words[3]
    if len(words) > 4:
        jax.distributed.initialize(words[4], num_processes=int(words[5]), process_id=int(words[6]))
    meter = Meter()
    transform = meter if kind == "parted" else lambda window, random: meter(window, random)
    solution = fit(
        eqx.nn.Linear(1, 1, key=jax.random.key(5)),
        open_dataset(path).windows(N_IN, N_OUT, batch_size=batch, seed=71, transform=transform),
        loss=loss,
        optimizer=optax.adam(3e-3),
        n_steps=steps,
        key=jax.random.key(5),
        mesh=None if jax.device_count() == 1 else mesh_of(data=jax.device_count()),
        log_every=1,
        progress=False,
    )
    print(
        json.dumps(
            {
                "losses": solution.stats["history"]["loss"][1].tolist(),
                "bytes": np.diff(meter.read).tolist(),
                "samples": max(meter.samples),
            }
        )
    )


if __name__ == "__main__":
    main(sys.argv[1:])
