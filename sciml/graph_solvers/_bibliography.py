"""BibTeX entries of convergent graph solvers."""

PARK_2022 = """
@inproceedings{park2022convergent,
  author = {Park, Junyoung and Choo, Jinhyun and Park, Jinkyoo},
  title = {Convergent Graph Solvers},
  booktitle = {International Conference on Learning Representations},
  year = {2022},
}
"""

GU_2020 = """
@inproceedings{gu2020implicit,
  author = {Gu, Fangda and Chang, Heng and Zhu, Wenwu and Sojoudi, Somayeh and El Ghaoui, Laurent},
  title = {Implicit Graph Neural Networks},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2020},
}
"""

WALKER_2011 = """
@article{walker2011anderson,
  author = {Walker, Homer F. and Ni, Peng},
  title = {{Anderson} Acceleration for Fixed-Point Iterations},
  journal = {SIAM Journal on Numerical Analysis},
  volume = {49},
  year = {2011},
}
"""
