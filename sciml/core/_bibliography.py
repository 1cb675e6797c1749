"""BibTeX entries of the methods in sciml, each written once, for `cites`."""

BASDEVANT_1983 = """
@article{basdevant1983technical,
  author = {Basdevant, C.},
  title = {Technical improvements for direct numerical simulation of homogeneous
           three-dimensional turbulence},
  journal = {Journal of Computational Physics},
  volume = {50},
  pages = {209--214},
  year = {1983},
}
"""

CANUTO_2007 = """
@book{canuto2007spectral,
  author = {Canuto, Claudio and Hussaini, M. Yousuff and Quarteroni, Alfio and Zang, Thomas A.},
  title = {Spectral Methods: Evolution to Complex Geometries and Applications to Fluid Dynamics},
  publisher = {Springer},
  year = {2007},
}
"""

CAO_2025 = """
@inproceedings{cao2025spectralrefiner,
  author = {Cao, Shuhao and Brarda, Francesco and Li, Ruipeng and Xi, Yuanzhe},
  title = {{Spectral-Refiner}: Accurate Fine-Tuning of Spatiotemporal {Fourier} Neural Operator
           for Turbulent Flows},
  booktitle = {International Conference on Learning Representations},
  year = {2025},
  eprint = {2405.17211},
  archivePrefix = {arXiv},
}
"""

CARPENTER_1994 = """
@techreport{carpenter1994fourth,
  author = {Carpenter, Mark H. and Kennedy, Christopher A.},
  title = {Fourth-Order {2N}-Storage {Runge-Kutta} Schemes},
  institution = {NASA},
  type = {Technical Memorandum},
  number = {109112},
  year = {1994},
}
"""

COX_2002 = """
@article{cox2002exponential,
  author = {Cox, S. M. and Matthews, P. C.},
  title = {Exponential Time Differencing for Stiff Systems},
  journal = {Journal of Computational Physics},
  volume = {176},
  pages = {430--455},
  year = {2002},
}
"""

KASSAM_2005 = """
@article{kassam2005fourth,
  author = {Kassam, Aly-Khan and Trefethen, Lloyd N.},
  title = {Fourth-Order Time-Stepping for Stiff {PDEs}},
  journal = {SIAM Journal on Scientific Computing},
  volume = {26},
  pages = {1214--1233},
  year = {2005},
}
"""

KINGMA_2015 = """
@inproceedings{kingma2015adam,
  author = {Kingma, Diederik P. and Ba, Jimmy},
  title = {Adam: A Method for Stochastic Optimization},
  booktitle = {International Conference on Learning Representations},
  year = {2015},
  eprint = {1412.6980},
  archivePrefix = {arXiv},
}
"""

KOCHKOV_2021 = """
@article{kochkov2021machine,
  author = {Kochkov, Dmitrii and Smith, Jamie A. and Alieva, Ayya and Wang, Qing and
            Brenner, Michael P. and Hoyer, Stephan},
  title = {Machine learning-accelerated computational fluid dynamics},
  journal = {Proceedings of the National Academy of Sciences},
  volume = {118},
  pages = {e2101784118},
  year = {2021},
}
"""

LI_2021 = """
@inproceedings{li2021fourier,
  author = {Li, Zongyi and Kovachki, Nikola and Azizzadenesheli, Kamyar and Liu, Burigede and
            Bhattacharya, Kaushik and Stuart, Andrew and Anandkumar, Anima},
  title = {{Fourier} Neural Operator for Parametric Partial Differential Equations},
  booktitle = {International Conference on Learning Representations},
  year = {2021},
  eprint = {2010.08895},
  archivePrefix = {arXiv},
}
"""

MCWILLIAMS_1984 = """
@article{mcwilliams1984emergence,
  author = {McWilliams, James C.},
  title = {The emergence of isolated coherent vortices in turbulent flow},
  journal = {Journal of Fluid Mechanics},
  volume = {146},
  pages = {21--43},
  year = {1984},
}
"""

POLI_2022 = """
@inproceedings{poli2022transform,
  author = {Poli, Michael and Massaroli, Stefano and Berto, Federico and Park, Jinkyoo and
            Dao, Tri and R{\\'e}, Christopher and Ermon, Stefano},
  title = {Transform Once: Efficient Operator Learning in Frequency Domain},
  booktitle = {Advances in Neural Information Processing Systems},
  volume = {35},
  year = {2022},
  eprint = {2211.14453},
  archivePrefix = {arXiv},
}
"""

SMITH_2019 = """
@inproceedings{smith2019super,
  author = {Smith, Leslie N. and Topin, Nicholay},
  title = {Super-Convergence: Very Fast Training of Neural Networks Using Large Learning Rates},
  booktitle = {Artificial Intelligence and Machine Learning for Multi-Domain Operations
               Applications},
  publisher = {SPIE},
  year = {2019},
  eprint = {1708.07120},
  archivePrefix = {arXiv},
}
"""
