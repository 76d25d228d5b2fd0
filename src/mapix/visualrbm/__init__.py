"""VisualRBM's models and training schedules.

``mapix.open("model.json")`` and ``mapix.open("schedule.json")`` open them.  This package holds
their classes, and the functions of VisualRBM's programs calchidden and buildmlp.
"""

from typing import TYPE_CHECKING

from mapix.lazy import attach

if TYPE_CHECKING:
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

_MODULES = {
    "AutoEncoder": "model",
    "Layer": "layer",
    "Model": "model",
    "MultilayerPerceptron": "model",
    "RestrictedBoltzmannMachine": "model",
    "Schedule": "schedule",
    "Stage": "schedule",
    "stack": "model",
    "write": "writing",
}

__getattr__, __dir__ = attach(__name__, _MODULES)
