"""Nonlinear least squares for many small problems, with an implicit derivative."""
