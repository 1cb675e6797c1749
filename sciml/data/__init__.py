"""Layer 2: files in, named arrays out: datasets, readers, generators, windows, normalisers."""

from ._augment import VorticitySymmetries as VorticitySymmetries
from ._dataset import DatasetSplits as DatasetSplits
from ._dataset import FieldDataset as FieldDataset
from ._encoded_fields import EncodedBatch as EncodedBatch
from ._encoded_fields import EncodedBatches as EncodedBatches
from ._encoded_fields import EncodedFields as EncodedFields
from ._encoded_fields import encode_fields as encode_fields
from ._fetch import fetch as fetch
from ._file_errors import DataFileError as DataFileError
from ._generate import generate_navier_stokes as generate_navier_stokes
from ._load import load as load
from ._normalisers import AbstractNormaliser as AbstractNormaliser
from ._normalisers import GaussianNormaliser as GaussianNormaliser
from ._normalisers import IdentityNormaliser as IdentityNormaliser
from ._own_format import save_dataset as save_dataset
from ._recipe import Forcing as Forcing
from ._recipe import InitialField as InitialField
from ._recipe import NavierStokesRecipe as NavierStokesRecipe
from ._tu_graphs import GraphDataset as GraphDataset
from ._tu_graphs import load_tu_graphs as load_tu_graphs
from ._windows import Transform as Transform
from ._windows import Window as Window
from ._windows import WindowBatches as WindowBatches
