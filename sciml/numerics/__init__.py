"""Layer 1: array mathematics without parameters, on grids of any dimension and size."""

from ._farthest_points import farthest_points as farthest_points
from ._fourier import dealias_mask as dealias_mask
from ._fourier import irfftn as irfftn
from ._fourier import laplacian as laplacian
from ._fourier import rfftn as rfftn
from ._fourier import spectral_derivative as spectral_derivative
from ._fourier import wavenumbers as wavenumbers
from ._full_precision import full_precision as full_precision
from ._graph import Graph as Graph
from ._graph import batch_graphs as batch_graphs
from ._graph import bucket_size as bucket_size
from ._graph import unbatch_graphs as unbatch_graphs
from ._lattice_neighbours import lattice_neighbours as lattice_neighbours
from ._masked_error import normalised_mse as normalised_mse
from ._matmul_along import matmul_along as matmul_along
from ._matrix_basis import MatrixBasis as MatrixBasis
from ._neighbours import Neighbours as Neighbours
from ._neighbours import most_neighbours as most_neighbours
from ._neighbours import radius_neighbours as radius_neighbours
from ._norms import bochner_norm as bochner_norm
from ._norms import relative_error_curve as relative_error_curve
from ._norms import relative_h1 as relative_h1
from ._norms import relative_l2 as relative_l2
from ._norms import sobolev_norm as sobolev_norm
from ._norms import spectral_relative_l2 as spectral_relative_l2
from ._resample import fourier_resample as fourier_resample
from ._segments import segment_mean as segment_mean
from ._segments import segment_softmax as segment_softmax
from ._segments import segment_sum as segment_sum
from ._sine import cosine as cosine
from ._sine import sine as sine
from ._small_matrices import polar_rotation as polar_rotation
from ._small_matrices import signed_svd as signed_svd
from ._sparse_matrix import SparseMatrix as SparseMatrix
from ._spectral_basis import AbstractSeparableBasis as AbstractSeparableBasis
from ._spectral_basis import AbstractSpectralBasis as AbstractSpectralBasis
from ._spectral_basis import GridPoints as GridPoints
from ._spectrum import energy_spectrum as energy_spectrum
from ._stencil import StencilOperator as StencilOperator
from ._trigonometric_bases import CosineBasis as CosineBasis
from ._trigonometric_bases import FourierBasis as FourierBasis
from ._trigonometric_bases import SineBasis as SineBasis
from ._truncated_dft import fourier_series_matrix as fourier_series_matrix
from ._truncated_dft import (
    trigonometric_interpolation_matrix as trigonometric_interpolation_matrix,
)
from ._truncated_dft import truncated_irfftn as truncated_irfftn
from ._truncated_dft import truncated_rfftn as truncated_rfftn
from ._unrolled_stencil import UnrolledStencil as UnrolledStencil
from ._velocity import divergence as divergence
from ._velocity import leray_project as leray_project
from ._velocity import stream_function as stream_function
from ._velocity import velocity_from_vorticity as velocity_from_vorticity
from ._velocity import vorticity_from_velocity as vorticity_from_velocity
