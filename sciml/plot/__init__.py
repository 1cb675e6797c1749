"""Layer 2: figures. Each function takes arrays and returns a matplotlib ``Figure``.

matplotlib is imported when a function is called (the extra ``plot``), ``pyplot`` never: no window
opens, no global state is touched, and a figure is freed with its last reference. `save_figure`
writes it; a notebook shows it when it is the last expression of a cell.
"""

from ._errors import plot_error_curves as plot_error_curves
from ._fields import plot_fields as plot_fields
from ._particles import animate_particles as animate_particles
from ._particles import plot_particles as plot_particles
from ._refinement import plot_refinement as plot_refinement
from ._roughness import plot_roughness as plot_roughness
from ._save import save_figure as save_figure
from ._spectrum import plot_spectrum as plot_spectrum
from ._summary import plot_summary as plot_summary
from ._training import plot_training as plot_training
