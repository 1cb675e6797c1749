"""Particles on a grid: the material point method, its materials, and random scenes."""

from ._march import march_particles as march_particles
from ._materials import AbstractMaterial as AbstractMaterial
from ._materials import ElasticSolid as ElasticSolid
from ._materials import Sand as Sand
from ._materials import Water as Water
from ._method import MaterialPointMethod as MaterialPointMethod
from ._method import ParticleState as ParticleState
from ._method import Wall as Wall
from ._scenes import ParticleBlock as ParticleBlock
from ._scenes import random_blocks as random_blocks
