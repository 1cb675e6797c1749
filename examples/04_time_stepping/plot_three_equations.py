"""
Heat, Allen-Cahn and Burgers: a network marched in time
=======================================================

A network with a few hundred parameters is the solution at one time. `march` steps it in function
space: each Runge-Kutta stage is a function, to which the network is fitted by damped natural
gradients. The error is that of the integrator, of the fits and of the initial fit, and the
certificate adds them up as it goes.

The sizes here are for half a minute. ``benchmarks/teng.py`` goes further, and compares with other
methods and with the spectral solver, which is faster by far on these boxes.
"""

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from sciml.natural_gradient import (
    CollocationPoints,
    PeriodicMLP,
    fit_initial,
    gradient,
    laplacian,
    march,
)

# Natural gradients need double precision.
jax.config.update("jax_enable_x64", True)

# %%
# The equations
# -------------
# A right-hand side is a function of time, point and ``u``, itself a function of a point.


def heat(t, x, u):
    return 0.1 * laplacian(u)(x)


def allen_cahn(t, x, u):
    return 0.005 * laplacian(u)(x) + u(x) - u(x) ** 3


def burgers(t, x, u):
    return 0.01 * laplacian(u)(x) - u(x) * jnp.sum(gradient(u)(x))


def initial(x):
    return 0.04 * jnp.cosh(3 * jnp.sin(x[0])) * jnp.sinh(jnp.sin(x[1]))


# %%
# The initial fit
# ---------------
# Random biases matter: with zero biases the network is odd, and can never follow an even change.

points = CollocationPoints.grid(28, 2)
network = PeriodicMLP(2, width=13, key=jax.random.key(0))
fit = fit_initial(network, initial, points, key=jax.random.key(1), rtol=1e-5, max_steps=70)
print(f"relative residual of the initial fit: {fit.stats['relative_residual']:.1e}")

# %%
# The marches
# -----------
# The reference is the same equation on a 96 x 96 grid in Fourier space.

n, t1 = 96, 0.1
axis = np.arange(n) * 2 * np.pi / n
grid = jnp.asarray(np.stack(np.meshgrid(axis, axis, indexing="ij"), axis=-1).reshape(-1, 2))
k = np.fft.fftfreq(n, 1 / n)
kx, ky = k[:, None], k[None]


def spectral(name, u):
    def slope(u):
        u_hat = np.fft.fft2(u)
        diffused = np.fft.ifft2(-(kx**2 + ky**2) * u_hat).real
        if name == "heat":
            return 0.1 * diffused
        if name == "Allen-Cahn":
            return 0.005 * diffused + u - u**3
        return 0.01 * diffused - u * np.fft.ifft2(1j * (kx + ky) * u_hat).real

    dt = t1 / 100
    for _ in range(100):
        k1 = slope(u)
        k2 = slope(u + dt / 2 * k1)
        k3 = slope(u + dt / 2 * k2)
        u = u + dt / 6 * (k1 + 2 * k2 + 2 * k3 + slope(u + dt * k3))
    return u


def on_grid(f):
    return np.asarray(jax.vmap(f)(grid)).reshape(n, n)


start = np.asarray(jax.vmap(initial)(grid)).reshape(n, n)
size = np.linalg.norm(start) * 2 * np.pi / n
error0 = np.linalg.norm(on_grid(fit.value) - start) * 2 * np.pi / n
results = {}
for name, rhs, growth in (
    ("heat", heat, 0.0),
    ("Allen-Cahn", allen_cahn, 1.0),
    ("Burgers", burgers, 1.0),
):
    run = march(rhs, fit.value, points, t1=t1, dt=0.02, initial_error=error0, growth_rate=growth)
    truth, ours = spectral(name, start), on_grid(run.value)
    error = np.linalg.norm(ours - truth) / np.linalg.norm(truth)
    bound = run.stats["error_bound"] / size
    results[name] = (run, ours, ours - truth, error)
    print(f"{name:11} relative L2 error {error:.1e}, certificate {bound:.1e}, "
          f"tangent residual {run.stats['tangent_residual']:.1e}")  # fmt: skip

# %%
# Solutions, their errors, and where the errors come from: the residual of each fit, on its points
# and between them. Were the second far above the first, the network would be overfitting.

figure = matplotlib.figure.Figure(figsize=(10, 8), layout="constrained")
axes = figure.subplots(3, 3)
for row, (name, (run, ours, miss, error)) in zip(axes, results.items(), strict=True):
    extent = (0, 2 * np.pi, 0, 2 * np.pi)
    image = row[0].imshow(ours.T, "viridis", origin="lower", extent=extent)
    figure.colorbar(image, ax=row[0])
    row[0].set(title=f"{name} at t = {t1}", xlabel="x", ylabel="y")
    scale = float(np.abs(miss).max())
    image = row[1].imshow(miss.T, "PuOr_r", origin="lower", extent=extent, vmin=-scale, vmax=scale)
    figure.colorbar(image, ax=row[1], format="%.0e")
    row[1].set(title=f"error, {error:.0e} in L2", xlabel="x", ylabel="y")
    times = np.cumsum(run.stats["dt"])
    row[2].semilogy(times, run.stats["fit_residual"], "o-", color="#0072B2", label="on points")
    row[2].semilogy(times, run.stats["off_grid_residual"], "s--", color="#D55E00", label="between")
    row[2].set(title="residual of each step's fit", xlabel="t")
    row[2].legend(frameon=False)
figure
