"""BibTeX of the tangent-space methods other than TENG itself."""

BRUNA_2024 = """
@article{bruna2024neuralgalerkin,
  author = {Bruna, Joan and Peherstorfer, Benjamin and Vanden-Eijnden, Eric},
  title = {Neural {Galerkin} Schemes with Active Learning for High-Dimensional Evolution Equations},
  journal = {Journal of Computational Physics},
  volume = {496},
  pages = {112588},
  year = {2024},
}
"""
