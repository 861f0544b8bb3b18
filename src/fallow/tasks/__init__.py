"""What is a label? Tasks turn a model's outputs into posteriors, losses and metrics."""

from fallow.tasks.base import Divergence, FeatureInfo, Task
from fallow.tasks.classification import Binary, Classification, classification_task
from fallow.tasks.posteriors import Kind, Posteriors, View

__all__ = [
    "Binary",
    "Classification",
    "Divergence",
    "FeatureInfo",
    "Kind",
    "Posteriors",
    "Task",
    "View",
    "classification_task",
]
