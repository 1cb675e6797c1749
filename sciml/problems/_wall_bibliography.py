"""BibTeX entries of flows between walls, each written once, for `cites`."""

ANGOT_1999 = """
@article{angot1999penalization,
  author = {Angot, Philippe and Bruneau, Charles-Henri and Fabrie, Pierre},
  title = {A penalization method to take into account obstacles in incompressible viscous flows},
  journal = {Numerische Mathematik},
  volume = {81},
  number = {4},
  pages = {497--520},
  year = {1999},
}
"""

GHIA_1982 = """
@article{ghia1982high,
  author = {Ghia, U. and Ghia, K. N. and Shin, C. T.},
  title = {High-{Re} solutions for incompressible flow using the {Navier-Stokes} equations and a
           multigrid method},
  journal = {Journal of Computational Physics},
  volume = {48},
  number = {3},
  pages = {387--411},
  year = {1982},
}
"""
