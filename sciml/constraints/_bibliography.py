"""BibTeX entries of hard constraints, implicit differentiation and constrained optimisation."""

BABUSKA_1997 = """
@article{babuska1997partition,
  author = {Babu{\\v{s}}ka, I. and Melenk, J. M.},
  title = {The Partition of Unity Method},
  journal = {International Journal for Numerical Methods in Engineering},
  volume = {40},
  number = {4},
  pages = {727--758},
  year = {1997},
}
"""

BLONDEL_2022 = """
@inproceedings{blondel2022efficient,
  author = {Blondel, Mathieu and Berthet, Quentin and Cuturi, Marco and Frostig, Roy and
            Hoyer, Stephan and Llinares-L{\\'o}pez, Felipe and Pedregosa, Fabian and
            Vert, Jean-Philippe},
  title = {Efficient and Modular Implicit Differentiation},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
  eprint = {2105.15183},
  archivePrefix = {arXiv},
}
"""

CHALAPATHI_2024 = """
@inproceedings{chalapathi2024scaling,
  author = {Chalapathi, Nithin and Du, Yiheng and Krishnapriyan, Aditi S.},
  title = {Scaling physics-informed hard constraints with mixture-of-experts},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
  eprint = {2402.13412},
  archivePrefix = {arXiv},
}
"""

GOLUB_1973 = """
@article{golub1973differentiation,
  author = {Golub, G. H. and Pereyra, V.},
  title = {The Differentiation of Pseudo-Inverses and Nonlinear Least Squares Problems Whose
           Variables Separate},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {10},
  number = {2},
  pages = {413--432},
  year = {1973},
}
"""

HOCK_1981 = """
@book{hock1981test,
  author = {Hock, Willi and Schittkowski, Klaus},
  title = {Test Examples for Nonlinear Programming Codes},
  series = {Lecture Notes in Economics and Mathematical Systems},
  volume = {187},
  publisher = {Springer},
  year = {1981},
}
"""

HONG_2023 = """
@inproceedings{hong2023constrained,
  author = {Hong, Ilgee and Na, Sen and Mahoney, Michael W. and Kolar, Mladen},
  title = {Constrained Optimization via Exact Augmented {Lagrangian} and Randomized Iterative
           Sketching},
  booktitle = {International Conference on Machine Learning},
  year = {2023},
  eprint = {2305.18379},
  archivePrefix = {arXiv},
}
"""

MARQUARDT_1963 = """
@article{marquardt1963algorithm,
  author = {Marquardt, Donald W.},
  title = {An Algorithm for Least-Squares Estimation of Nonlinear Parameters},
  journal = {Journal of the Society for Industrial and Applied Mathematics},
  volume = {11},
  number = {2},
  pages = {431--441},
  year = {1963},
}
"""

NEGIAR_2023 = """
@inproceedings{negiar2023learning,
  author = {N{\\'e}giar, Geoffrey and Mahoney, Michael W. and Krishnapriyan, Aditi S.},
  title = {Learning differentiable solvers for systems with hard constraints},
  booktitle = {International Conference on Learning Representations},
  year = {2023},
  eprint = {2207.08675},
  archivePrefix = {arXiv},
}
"""

NIELSEN_1999 = """
@techreport{nielsen1999damping,
  author = {Nielsen, Hans Bruun},
  title = {Damping Parameter in {Marquardt's} Method},
  institution = {Technical University of Denmark},
  number = {IMM-REP-1999-05},
  year = {1999},
}
"""
