"""Equality-constrained minimisation with an exact augmented Lagrangian."""
