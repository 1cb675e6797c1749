"""BibTeX entries of stationary problems, their optimisers and the landscapes of their losses."""

E_2018 = """
@article{e2018deepritz,
  author = {E, Weinan and Yu, Bing},
  title = {The Deep {Ritz} Method: A Deep Learning-Based Numerical Algorithm for Solving
           Variational Problems},
  journal = {Communications in Mathematics and Statistics},
  volume = {6},
  pages = {1--12},
  year = {2018},
}
"""

SIRIGNANO_2018 = """
@article{sirignano2018dgm,
  author = {Sirignano, Justin and Spiliopoulos, Konstantinos},
  title = {{DGM}: A Deep Learning Algorithm for Solving Partial Differential Equations},
  journal = {Journal of Computational Physics},
  volume = {375},
  pages = {1339--1364},
  year = {2018},
}
"""

ROUGHNESS_2021 = """
@article{wu2021roughness,
  author = {Wu, Keke and Du, Rui and Chen, Jingrun and Zhou, Xiang},
  title = {Understanding Loss Landscapes of Neural Network Models in Solving Partial Differential
           Equations},
  year = {2021},
  eprint = {2103.11069},
  archivePrefix = {arXiv},
}
"""

MUELLER_2023 = """
@inproceedings{mueller2023engd,
  author = {M{\\"u}ller, Johannes and Zeinhofer, Marius},
  title = {Achieving High Accuracy with {PINNs} via Energy Natural Gradient Descent},
  booktitle = {International Conference on Machine Learning},
  year = {2023},
  eprint = {2302.13163},
  archivePrefix = {arXiv},
}
"""

GUZMAN_2025 = """
@article{guzman2025engdw,
  author = {Guzm{\\'a}n-Cordero, Andr{\\'e}s and Dangel, Felix and Goldshlager, Gil and
            Zeinhofer, Marius},
  title = {Improving Energy Natural Gradient Descent through {Woodbury}, Momentum, and
           Randomization},
  year = {2025},
  eprint = {2505.12149},
  archivePrefix = {arXiv},
}
"""

DONATELLA_2024 = """
@article{donatella2024thermodynamic,
  author = {Donatella, Kaelan and Duffield, Samuel and Aifer, Maxwell and Melanson, Denis and
            Crooks, Gavin and Coles, Patrick J.},
  title = {Thermodynamic Natural Gradient Descent},
  year = {2024},
  eprint = {2405.13817},
  archivePrefix = {arXiv},
}
"""

RAISSI_2019 = """
@article{raissi2019pinn,
  author = {Raissi, Maziar and Perdikaris, Paris and Karniadakis, George Em},
  title = {Physics-Informed Neural Networks: A Deep Learning Framework for Solving Forward and
           Inverse Problems Involving Nonlinear Partial Differential Equations},
  journal = {Journal of Computational Physics},
  volume = {378},
  pages = {686--707},
  year = {2019},
}
"""

CHEN_2024 = """
@inproceedings{chen2024teng,
  author = {Chen, Zhuo and McCarran, Jacob and Vizcaino, Esteban and Solja{\\v{c}}i{\\'c}, Marin
            and Luo, Di},
  title = {{TENG}: Time-Evolving Natural Gradient for Solving {PDEs} with Deep Neural Nets Toward
           Machine Precision},
  booktitle = {International Conference on Machine Learning},
  year = {2024},
  eprint = {2404.10771},
  archivePrefix = {arXiv},
}
"""
