"""VisualRBM's models and training schedules.

``mapix.open("model.json")`` and ``mapix.open("schedule.json")`` open them; this package holds what
they return, and what VisualRBM's calchidden and buildmlp do.
"""

from mapix.visualrbm.layer import Layer
from mapix.visualrbm.model import (
    AutoEncoder,
    Model,
    MultilayerPerceptron,
    RestrictedBoltzmannMachine,
    stack,
)
from mapix.visualrbm.schedule import Schedule, Stage
from mapix.visualrbm.writing import write

__all__ = [
    "AutoEncoder",
    "Layer",
    "Model",
    "MultilayerPerceptron",
    "RestrictedBoltzmannMachine",
    "Schedule",
    "Stage",
    "stack",
    "write",
]
