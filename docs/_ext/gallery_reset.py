"""Between the gallery's scripts: each starts as a new session of a user would."""

import jax


def start_anew(gallery_conf, name) -> None:
    """Take back the one setting that scripts change, and free compiled programs."""
    jax.config.update("jax_enable_x64", False)
    jax.clear_caches()
