"""Sphinx settings. The build is offline: no inventory, font or script is fetched."""

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))

project = "sciml"
author = "The sciml developers"
copyright = author
release = version = installed_version("sciml")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_gallery.gen_gallery",
    "api_pages",
    "benchmark_results",
    "page_code",
]
page_code = ["extending.md"]
exclude_patterns = ["_build", "_ext", "generated/gallery/**/*.ipynb"]
suppress_warnings = ["config.cache"]

# Docstrings: single backticks are references where they resolve and code where they do not.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
python_use_unqualified_type_names = True
maximum_signature_line_length = 88
numpydoc_show_class_members = False
numpydoc_use_plots = False

myst_enable_extensions = ["dollarmath", "deflist", "colon_fence"]
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "sciml"
html_show_sourcelink = False
html_theme_options = {
    "navigation_with_keys": False,
    "show_toc_level": 2,
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": [],
    "footer_end": [],
}

sphinx_gallery_conf = {
    "examples_dirs": str(HERE.parent / "examples"),
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "abort_on_example_error": True,
    "image_scrapers": ("gallery_figures.scrape_figures",),
    # The value of a block's last expression is shown, unless it is a figure (already drawn).
    "capture_repr": ("_repr_html_", "__repr__"),
    "ignore_repr_types": "Figure",
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    "min_reported_time": 1,
    "reset_modules": ("gallery_reset.start_anew",),
}
