"""BibTeX entries of the evaluation at full order."""

VISWANATH_2026 = """
@article{viswanath2026learning,
  author = {Viswanath, Hrishikesh and Chang, Yue and Panas, Aleksey and Berner, Julius and
            Chen, Peter Yichen and Bera, Aniket},
  title = {Learning {Lagrangian} Interaction Dynamics with Sampling-Based Model Order Reduction},
  journal = {Transactions on Machine Learning Research},
  year = {2026},
}
"""
