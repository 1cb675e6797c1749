"""GIOROM: steppers of sampled particles, their training and their long motions."""

from ._ballistic import BallisticStepper as BallisticStepper
from ._evaluate_particles import ParticleScore as ParticleScore
from ._evaluate_particles import evaluate_particles as evaluate_particles
from ._graph_interaction_stepper import GIOROM as GIOROM
from ._graph_interaction_stepper import GraphInteractionStepper as GraphInteractionStepper
from ._graph_network_simulator import GNS as GNS
from ._graph_network_simulator import GraphNetworkSimulator as GraphNetworkSimulator
from ._graph_neural_operator import GraphNeuralOperator as GraphNeuralOperator
from ._graph_neural_operator import KernelKind as KernelKind
from ._interaction_operator import InteractionOperator as InteractionOperator
from ._latent_grid import LatentGrid as LatentGrid
from ._latent_path import LatentPath as LatentPath
from ._particle_loss import ParticleLoss as ParticleLoss
from ._particle_loss import random_walk_noise as random_walk_noise
from ._particle_rollout import rollout_particles as rollout_particles
from ._particle_stepper import AbstractParticleStepper as AbstractParticleStepper
