"""The loop's side of the contract with a method, the same in one process and in many."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from fallow.engine.ema import Ema
from fallow.methods import Batch, Method, Step, Teacher, TeacherKind
from fallow.models import encode_tokens, pool_tokens


class Student(Protocol):
    """What is trained: a backbone that takes images in 0..1, and a head on its features."""

    head: nn.Module

    def features(self, images: Tensor) -> Any:
        """Return the features of images (n, 3, h, w)."""


class Trainee(nn.Module):
    """Network and method as one module: wrapped by the loop as a whole, so that gradients always synchronise."""

    def __init__(self, network: nn.Module, method: Method) -> None:
        super().__init__()
        self.network, self.method = network, method

    def forward(self, errand: Errand) -> Tensor:
        """Run one step of the method and return its loss; the rest of what it says stays with the errand."""
        errand.step = self.method.step(errand.batch, errand.ctx)
        return errand.step.loss


class Errand:
    """A batch on its way into the method and its answer on the way back.

    A plain object and no tuple: wrappers look into tuples and convert what they find.
    """

    step: Step

    def __init__(self, batch: Batch, ctx: LoopContext) -> None:
        self.batch, self.ctx = batch, ctx


class LoopContext:
    """See `fallow.methods.StepContext`.

    Args:
        fabric: Processes.
        trainee: Network and method, not wrapped.
        ema: Their moving average, if one is kept.
        follows: Who the teacher of a joint method is.
        total_steps: Steps planned in all.
        slow: How the teacher of a pretraining method answers; None: it has none.
    """

    def __init__(
        self,
        fabric: Fabric,
        trainee: Trainee,
        ema: Ema | None,
        follows: TeacherKind,
        total_steps: int,
        slow: Teacher | None = None,
    ) -> None:
        self._slow = slow
        self.step, self.total_steps = 0, total_steps
        self.rank, self.world_size = fabric.global_rank, fabric.world_size
        self._fabric, self._trainee, self._ema = fabric, trainee, ema
        self.follows: TeacherKind = "self" if ema is None else follows

    def features(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the student's backbone on all images in one pass, or one a size."""
        return _by_size(self._trainee.network, images)

    def head(self, features: Any) -> Any:
        """Run the student's head."""
        return _student(self._trainee.network).head(features)

    def model(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the student on all images in one pass."""
        network = _student(self._trainee.network)
        return _apart(network.head(network.features(torch.cat(images))), images)

    @torch.no_grad()
    def teacher_features(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the backbone of the moving average on all images in one pass, or one a size."""
        return _by_size(self._average().network, images)

    def teacher_method(self) -> Any:
        """Return the method as the moving average has it."""
        return self._average().method

    def tokens(self, images: Tensor, *, of_teacher: bool = False, **hiding: Tensor | None) -> Tensor:
        """Return the tokens of images, some of them hidden."""
        return encode_tokens(self._network(of_teacher), images, **hiding)

    def pooled(self, tokens: Tensor, *, of_teacher: bool = False) -> Tensor:
        """Return the features that the network makes of tokens."""
        return pool_tokens(self._network(of_teacher), tokens)

    def _network(self, of_teacher: bool) -> nn.Module:
        return self._average().network if of_teacher else self._trainee.network

    def _average(self) -> Trainee:
        """Return the moving average, its BatchNorms in the mode that the method asks for."""
        if self._ema is None or self._slow is None:
            raise RuntimeError("the method asks for a teacher and has not said so (PretrainMethod.teacher)")
        average = self._ema.module
        assert isinstance(average, Trainee)
        for own, student in zip(average.modules(), self._trainee.modules(), strict=True):
            if isinstance(own, nn.modules.batchnorm._BatchNorm):
                own.training = student.training and self._slow.norm == "batch"
        return average

    @torch.no_grad()
    def teacher(self, *images: Tensor) -> tuple[Any, ...]:
        """Run the teacher on all images in one pass."""
        if self.follows == "ema" and self._ema is not None:
            network = self._ema.module.network
            return self._answers(network, images)
        network, training = self._trainee.network, [m for m in self._trainee.network.modules() if m.training]
        try:
            return self._answers(network.eval(), images)
        finally:
            for module in training:  # not .train(): frozen parts stay in evaluation mode
                module.training = True

    @staticmethod
    def _answers(network: Any, images: tuple[Tensor, ...]) -> tuple[Any, ...]:
        return _apart(network.head(network.features(torch.cat(images))), images)

    def reduce(self, value: Tensor) -> Tensor:
        """Return the sum over all processes, without gradient."""
        if self.world_size == 1:
            return value.detach()
        summed = self._fabric.all_reduce(value.detach().clone(), reduce_op="sum")
        assert isinstance(summed, Tensor)
        return summed

    def gather(self, value: Tensor) -> Tensor:
        """Return ``value`` of all processes, concatenated, with gradient."""
        if self.world_size == 1:
            return value
        gathered = self._fabric.all_gather(value, sync_grads=True)
        assert isinstance(gathered, Tensor)
        return gathered.flatten(0, 1)


def _student(network: Any) -> Student:
    student: Student = network
    return student


def _by_size(network: Any, images: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Run a backbone on images, those of one size together, and return the features of each tensor of them."""
    found: list[Any] = [None] * len(images)
    for size in dict.fromkeys(x.shape[-2:] for x in images):
        places = [place for place, x in enumerate(images) if x.shape[-2:] == size]
        chosen = tuple(images[place] for place in places)
        for place, own in zip(
            places, _apart(_student(network).features(torch.cat(chosen)), chosen), strict=True
        ):
            found[place] = own
    return tuple(found)


def _apart(outputs: Any, images: tuple[Tensor, ...]) -> tuple[Any, ...]:
    """Cut what was answered for all images into the answers for each tensor of them."""
    sizes = [len(x) for x in images]
    if isinstance(outputs, Tensor):
        return torch.split(outputs, sizes)
    if isinstance(outputs, dict):
        cut = {key: _apart(value, images) for key, value in outputs.items()}
        return tuple({key: value[i] for key, value in cut.items()} for i in range(len(sizes)))
    starts = [sum(sizes[:i]) for i in range(len(sizes))]
    return tuple(outputs[start : start + size] for start, size in zip(starts, sizes, strict=True))
