"""BibTeX entries of the steppers of particles."""

VISWANATH_2024 = """
@article{viswanath2024giorom,
  author = {Viswanath, Hrishikesh and Chang, Yue and Berner, Julius and Chen, Peter Yichen and
            Bera, Aniket},
  title = {Reduced-Order Neural Operators: Learning {Lagrangian} Dynamics on Highly Sparse Graphs},
  journal = {arXiv:2407.03925},
  year = {2024},
}
"""

SANCHEZ_GONZALEZ_2020 = """
@inproceedings{sanchezgonzalez2020learning,
  author = {Sanchez-Gonzalez, Alvaro and Godwin, Jonathan and Pfaff, Tobias and Ying, Rex and
            Leskovec, Jure and Battaglia, Peter},
  title = {Learning to Simulate Complex Physics with Graph Networks},
  booktitle = {International Conference on Machine Learning},
  year = {2020},
}
"""

LI_2020 = """
@article{li2020neural,
  author = {Li, Zongyi and Kovachki, Nikola and Azizzadenesheli, Kamyar and Liu, Burigede and
            Bhattacharya, Kaushik and Stuart, Andrew and Anandkumar, Anima},
  title = {Neural Operator: Graph Kernel Network for Partial Differential Equations},
  journal = {arXiv:2003.03485},
  year = {2020},
}
"""
