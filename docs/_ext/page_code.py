"""Runs the Python blocks of the pages named in ``page_code``, so that they cannot go stale.

Each block is a program of its own. All run in one process after another's end, with JAX's settings
put back, since starting Python and JAX takes longer than most of them. A quick build
(``-D plot_gallery=0``) leaves them out, as it does the gallery.
"""

import re
import subprocess
import sys
from pathlib import Path

from sphinx.errors import ExtensionError
from sphinx.util.logging import getLogger

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.M | re.S)
_RUN = """
import sys, time
import jax
for number, code in enumerate(sys.stdin.read().split(chr(0)), 1):
    begin = time.perf_counter()
    print(f"block {number}", flush=True)
    exec(compile(code, f"<block {number}>", "exec"), {"__name__": "__main__"})
    jax.config.update("jax_enable_x64", False)
    jax.clear_caches()
    print(f"{time.perf_counter() - begin:.1f} s", flush=True)
"""


def run_blocks(app, config) -> None:
    """Run the blocks of each page; the first that fails stops the build with its output."""
    if not config.plot_gallery or str(config.plot_gallery) == "0":
        return
    for page in config.page_code:
        blocks = _BLOCK.findall((Path(app.srcdir) / page).read_text())
        if not blocks:
            raise ExtensionError(f"{page} has no Python blocks; take it out of `page_code`.")
        command = [sys.executable, "-W", "error", "-c", _RUN]
        done = subprocess.run(
            command, input="\0".join(blocks), capture_output=True, text=True, check=False
        )
        getLogger(__name__).info("%s\n%s", page, done.stdout)
        if done.returncode:
            tail = f"{done.stdout[-500:]}\n{done.stderr[-4000:]}"
            raise ExtensionError(f"the code of {page} fails:\n{tail}")


def setup(app):
    app.add_config_value("page_code", [], "")
    app.connect("config-inited", run_blocks)
    return {"version": "1", "parallel_read_safe": True}
