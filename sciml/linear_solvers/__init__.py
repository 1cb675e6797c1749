"""Layer 4: learned preconditioners and conjugate-direction solvers for symmetric systems."""
