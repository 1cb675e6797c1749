"""Korteweg-de Vries: a soliton keeps its form, and energy stays."""

import jax.numpy as jnp
import numpy as np

from sciml.problems import KortewegDeVries1D, solve


def soliton(x, c, length):
    near = (x + length / 2) % length - length / 2
    return (c / 2) / jnp.cosh(jnp.sqrt(c) * near / 2)[None] ** 2


def test_a_soliton_travels_at_half_its_height_times_four(x64):
    n, length, c = 96, 40.0, 1.5
    problem = KortewegDeVries1D((n,), domain_extent=length)
    x = jnp.arange(float(n)) * (length / n) - length / 2
    start = soliton(x, c, length)
    end = solve(problem, start, dt=0.02, n_steps=200, save_every=200).value[-1]
    assert jnp.abs(end - soliton(x - c * 4.0, c, length)).max() < 2e-3
    assert np.isclose(jnp.sum(end**2), jnp.sum(start**2), rtol=1e-4)
    assert np.isclose(jnp.sum(end), jnp.sum(start), rtol=1e-9)
