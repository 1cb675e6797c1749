"""``import sciml`` is light: no extra, no setting flipped, nothing of JAX's experimental parts."""

import json
import subprocess
import sys

_PROGRAM = """
import json, sys, time
import jax, equinox, diffrax, lineax, optimistix, optax, jaxtyping, numpy, scipy, tqdm
before = set(sys.modules)
flags = dict(jax.config.values)
start = time.perf_counter()
import sciml
seconds = time.perf_counter() - start
after_root = sorted(set(sys.modules) - before)
import sciml.core, sciml.train
after_core = sorted(set(sys.modules) - before)
changed = [name for name, value in jax.config.values.items() if flags.get(name) != value]
print(json.dumps(dict(root=after_root, core=after_core, changed=changed, seconds=seconds,
    x64=bool(jax.config.jax_enable_x64), bare="h5py" in sys.modules,
    devices=bool(jax._src.xla_bridge._backends))))
"""


def test_import_is_light():
    done = subprocess.run([sys.executable, "-c", _PROGRAM], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert not [m for m in found["root"] if m.startswith("sciml.")]
    assert found["seconds"] < 0.5
    roots = {m.partition(".")[0] for m in found["core"]}
    assert not roots & {"h5py", "pooch", "matplotlib", "exponax", "pytest", "tyro"}
    assert not [m for m in found["core"] if m.startswith("jax.experimental")]
    assert found["changed"] == []
    assert found["x64"] is False
    assert found["devices"] is False, "importing sciml started a JAX backend"
