"""BibTeX entries of regularised neural differential equations."""

PAL_2021 = """
@inproceedings{Pal2021,
  author = {Pal, Avik and Ma, Yingbo and Shah, Viral and Rackauckas, Christopher},
  title = {Opening the Blackbox: Accelerating Neural Differential Equations by Regularizing
    Internal Solver Heuristics},
  booktitle = {International Conference on Machine Learning},
  year = {2021},
  eprint = {2105.03918},
  archivePrefix = {arXiv},
}
"""

PAL_2023 = """
@inproceedings{Pal2023,
  author = {Pal, Avik and Edelman, Alan and Rackauckas, Christopher},
  title = {Locally Regularized Neural Differential Equations: Some Black Boxes Were Meant to
    Remain Closed!},
  booktitle = {International Conference on Machine Learning},
  year = {2023},
  eprint = {2303.02262},
  archivePrefix = {arXiv},
}
"""

KIDGER_2021 = """
@phdthesis{Kidger2021,
  author = {Kidger, Patrick},
  title = {On Neural Differential Equations},
  school = {University of Oxford},
  year = {2021},
  eprint = {2202.02435},
  archivePrefix = {arXiv},
}
"""

SHAMPINE_1977 = """
@article{Shampine1977,
  author = {Shampine, Lawrence F.},
  title = {Stiffness and Nonstiff Differential Equation Solvers, {II}: Detecting Stiffness with
    {Runge-Kutta} Methods},
  journal = {ACM Transactions on Mathematical Software},
  volume = {3},
  number = {1},
  pages = {44--53},
  year = {1977},
}
"""

GHOSH_2020 = """
@inproceedings{Ghosh2020,
  author = {Ghosh, Arnab and Behl, Harkirat Singh and Dupont, Emilien and Torr, Philip H. S. and
    Namboodiri, Vinay},
  title = {{STEER}: Simple Temporal Regularization For Neural {ODE}s},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020},
}
"""

KELLY_2020 = """
@inproceedings{Kelly2020,
  author = {Kelly, Jacob and Bettencourt, Jesse and Johnson, Matthew James and Duvenaud, David},
  title = {Learning Differential Equations that are Easy to Solve},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020},
}
"""

FINLAY_2020 = """
@inproceedings{Finlay2020,
  author = {Finlay, Chris and Jacobsen, J{\\"o}rn-Henrik and Nurbekyan, Levon and Oberman, Adam},
  title = {How to Train Your Neural {ODE}: the World of {Jacobian} and Kinetic Regularization},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
}
"""

HAIRER_1993 = """
@book{Hairer1993,
  author = {Hairer, Ernst and N{\\o}rsett, Syvert P. and Wanner, Gerhard},
  title = {Solving Ordinary Differential Equations {I}: Nonstiff Problems},
  publisher = {Springer},
  edition = {2},
  year = {1993},
}
"""

RUBANOVA_2019 = """
@inproceedings{Rubanova2019,
  author = {Rubanova, Yulia and Chen, Ricky T. Q. and Duvenaud, David},
  title = {Latent Ordinary Differential Equations for Irregularly-Sampled Time Series},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2019},
}
"""
