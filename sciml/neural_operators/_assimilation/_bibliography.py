"""BibTeX entries of data assimilation, each written once, for `cites`."""

SINGH_2024 = """
@inproceedings{singh2024learning,
  author = {Singh, Ashutosh and Borsoi, Ricardo Augusto and Erdogmus, Deniz and Imbiriba, Tales},
  title = {Learning semilinear neural operators: A unified recursive framework for prediction and
           data assimilation},
  booktitle = {International Conference on Learning Representations},
  year = {2024},
}
"""

WHITAKER_2002 = """
@article{whitaker2002ensemble,
  author = {Whitaker, Jeffrey S. and Hamill, Thomas M.},
  title = {Ensemble data assimilation without perturbed observations},
  journal = {Monthly Weather Review},
  volume = {130},
  number = {7},
  pages = {1913--1924},
  year = {2002},
}
"""

EVENSEN_1994 = """
@article{evensen1994sequential,
  author = {Evensen, Geir},
  title = {Sequential data assimilation with a nonlinear quasi-geostrophic model using {Monte
           Carlo} methods to forecast error statistics},
  journal = {Journal of Geophysical Research: Oceans},
  volume = {99},
  number = {C5},
  pages = {10143--10162},
  year = {1994},
}
"""

GASPARI_1999 = """
@article{gaspari1999construction,
  author = {Gaspari, Gregory and Cohn, Stephen E.},
  title = {Construction of correlation functions in two and three dimensions},
  journal = {Quarterly Journal of the Royal Meteorological Society},
  volume = {125},
  number = {554},
  pages = {723--757},
  year = {1999},
}
"""

HOKE_1976 = """
@article{hoke1976initialization,
  author = {Hoke, James E. and Anthes, Richard A.},
  title = {The initialization of numerical models by a dynamic-initialization technique},
  journal = {Monthly Weather Review},
  volume = {104},
  number = {12},
  pages = {1551--1556},
  year = {1976},
}
"""
