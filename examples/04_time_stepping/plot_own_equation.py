"""
Your own equation in fifteen lines
==================================

Any right-hand side that can be written with values and derivatives at a point can be marched.
Here: diffusion that is faster where there is more, on a circle. Its flux is differentiated as it
stands; nothing is derived by hand.
"""

import jax
import jax.numpy as jnp
import matplotlib.figure
import numpy as np

from sciml.natural_gradient import CollocationPoints, PeriodicMLP, derivative, fit_initial, march

jax.config.update("jax_enable_x64", True)


def equation(t, x, u):
    def flux(y):
        return (0.05 + u(y) ** 2) * derivative(u, 0)(y)

    return derivative(flux, 0)(x)


points = CollocationPoints.grid(128, 1)
network = PeriodicMLP(1, width=8, depth=2, key=jax.random.key(3))
start = fit_initial(
    network, lambda x: jnp.exp(jnp.cos(x[0]) - 1), points, key=jax.random.key(4), rtol=1e-7
).value
run = march(equation, start, points, t1=0.5, dt=0.0125, saveat=(0.1, 0.2, 0.3, 0.4))

# %%
# The amount is conserved by the equation; how well the march keeps it is a check of its own, beside
# the certificate.

amounts = [float(points.w @ jax.vmap(f)(points.x)) for f in (start, run.value)]
print(f"amount {amounts[0]:.7f} at the start, {amounts[1]:.7f} at the end; certificate of the "
      f"L2 error {run.stats['error_bound']:.1e}")  # fmt: skip

x = np.linspace(0, 2 * np.pi, 200)
figure = matplotlib.figure.Figure(figsize=(6, 4), layout="constrained")
axes = figure.subplots()
states = {0.0: start, **dict(zip(run.stats["ts"], run.stats["networks"], strict=True))}
for i, (t, u) in enumerate(states.items()):
    shade = (0.0, 0.45, 0.7, 0.25 + 0.75 * i / (len(states) - 1))
    axes.plot(x, jax.vmap(u)(jnp.asarray(x)[:, None]), color=shade, label=f"t = {t:.1f}")
axes.set(xlabel="x", ylabel="u", title="Diffusion that is faster where there is more")
axes.legend(frameon=False)
figure
