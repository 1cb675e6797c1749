"""Pictures of the gallery: sphinx-gallery's own scraper sees pyplot figures only, ours are not."""

from pathlib import Path
from weakref import WeakSet

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

_drawn: WeakSet = WeakSet()


def scrape_figures(block, block_vars, gallery_conf) -> str:
    """Save each figure that the block left in a variable or as its last expression."""
    paths = []
    # list(): the last expression is a variable of its own, so a figure may be there twice.
    for value in list(block_vars["example_globals"].values()):
        if isinstance(value, Figure) and value not in _drawn:
            _drawn.add(value)
            path = Path(next(block_vars["image_path_iterator"]))
            value.savefig(path, dpi=120)
            paths.append(str(path))
    return figure_rst(paths, gallery_conf["src_dir"])
