"""Tasks: a trained model, its data and a metric; the built-in ones and those of users."""

from eqnet.tasks.loading import BUILT_IN, load_task
from eqnet.tasks.task import Normalization, Task, top1
from eqnet.tasks.validation import validate

__all__ = ["BUILT_IN", "Normalization", "Task", "load_task", "top1", "validate"]
