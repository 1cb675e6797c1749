"""BibTeX entries of the conjugate-direction solvers."""

KANEDA_2023 = """
@inproceedings{Kaneda2023,
  author = {Kaneda, Ayano and Akar, Osman and Chen, Jingyu and Kala, Victoria Alicia Trevino and
    Hyde, David and Teran, Joseph},
  title = {A Deep Conjugate Direction Method for Iteratively Solving Linear Systems},
  booktitle = {International Conference on Machine Learning},
  series = {Proceedings of Machine Learning Research},
  volume = {202},
  year = {2023},
}
"""

NOTAY_2000 = """
@article{Notay2000,
  author = {Notay, Yvan},
  title = {Flexible Conjugate Gradients},
  journal = {SIAM Journal on Scientific Computing},
  volume = {22},
  number = {4},
  pages = {1444--1460},
  year = {2000},
  doi = {10.1137/S1064827599362314},
}
"""

DENDY_1982 = """
@article{Dendy1982,
  author = {Dendy, J. E.},
  title = {Black Box Multigrid},
  journal = {Journal of Computational Physics},
  volume = {48},
  number = {3},
  pages = {366--386},
  year = {1982},
}
"""

LAN_2024 = """
@inproceedings{Lan2024,
  author = {Lan, Kai Weixian and Gueidon, Elias and Kaneda, Ayano and Panetta, Julian and
    Teran, Joseph},
  title = {A Neural-Preconditioned {Poisson} Solver for Mixed {Dirichlet} and {Neumann} Boundary
    Conditions},
  booktitle = {International Conference on Machine Learning},
  year = {2024},
}
"""

VANEK_1996 = """
@article{Vanek1996,
  author = {Van\v{e}k, Petr and Mandel, Jan and Brezina, Marian},
  title = {Algebraic Multigrid by Smoothed Aggregation for Second and Fourth Order Elliptic
    Problems},
  journal = {Computing},
  volume = {56},
  number = {3},
  pages = {179--196},
  year = {1996},
}
"""
