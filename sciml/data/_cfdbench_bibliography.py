"""BibTeX entry of the CFD benchmark, for `cites`."""

LUO_2023 = """
@misc{luo2023cfdbench,
  author = {Luo, Yining and Chen, Yingfa and Zhang, Zhen},
  title = {{CFDBench}: A Large-Scale Benchmark for Machine Learning Methods in Fluid Dynamics},
  year = {2023},
  eprint = {2310.05963},
  archivePrefix = {arXiv},
}
"""
