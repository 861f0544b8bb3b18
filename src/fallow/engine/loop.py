"""The loop: batch, loss, gradient, step, average. It knows no method, no task and no file format."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from fallow.engine.checkpoint import load_checkpoint, save_checkpoint
from fallow.engine.context import Errand, LoopContext, Trainee
from fallow.engine.ema import Ema
from fallow.engine.feed import Feed
from fallow.engine.health import CURE, Diverged, Finding, Watch
from fallow.engine.loggers import Logger, make_loggers
from fallow.engine.machine import check_precision, process_count
from fallow.engine.optim import make_optimizer, parameter_groups, set_lr
from fallow.engine.pretrain_watch import PretrainWatch
from fallow.engine.recompute import recompute, statistics_stand_still
from fallow.engine.seeds import derive
from fallow.engine.settings import LoopSettings
from fallow.methods import JointMethod, Method, PretrainMethod, TeacherKind
from fallow.models import accept_sizes
from fallow.types import Progress, silent

_CHECKPOINT_SECONDS = 20.0


@dataclass(frozen=True)
class Place:
    """Where a fit keeps what it needs to go on after a kill, and its figures.

    Attributes:
        folder: A folder of its own.
        name: What the fit is called in trackers.
        trackers: ``tensorboard``, ``wandb``, ``mlflow``: any of them.
        tracked: Where trackers put their files, which outlive the fit; None: ``folder``.
    """

    folder: Path
    name: str = "fit"
    trackers: tuple[str, ...] = ()
    tracked: Path | None = None

    @property
    def checkpoint(self) -> Path:
        """The file that a fit goes on from."""
        return self.folder / "checkpoint.safetensors"

    @property
    def log(self) -> Path:
        """The figures, one JSON line a look."""
        return self.folder / "train.jsonl"


@dataclass(frozen=True)
class Outcome:
    """What a fit leaves.

    Attributes:
        network: The trained network: its moving average where one was kept and the method leaves it (`PretrainMethod.leaves`).
        method: The method with its state (a head of its own, say), averaged likewise.
        steps: Steps that were done; fewer than planned when the clock cut the fit.
        findings: What a person should know.
        figures: Means of the last figures.
        seconds: What this process spent.
    """

    network: nn.Module
    method: Method
    steps: int
    findings: tuple[Finding, ...]
    figures: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


class Loop:
    """One fit of one network by one method.

    Several processes on CUDA devices share the statistics of every BatchNorm (SyncBatchNorm), so that they train as one does
    on the whole batch. On CPUs, where torch has none, each normalizes with its own share of the batch.

    Args:
        network: Has ``features(images)`` and ``head``; changed in place.
        method: Turns a batch into a loss; `Method.build` was called.
        feed: Makes batches.
        settings: How to train.
        fabric: Device, precision and processes; None makes one.
        place: Where to keep a checkpoint and figures; None keeps nothing.
        classes: Names of the classes, for sentences.
        chance_loss: Supervised loss of a model that knows nothing; None: unknown.
        progress: Told how many steps are done.
        title: What the progress line calls it.
        tell: Told in a sentence when something looks wrong.
    """

    def __init__(
        self,
        network: nn.Module,
        method: Method,
        feed: Feed,
        settings: LoopSettings,
        *,
        fabric: Fabric | None = None,
        place: Place | None = None,
        classes: Sequence[str] = (),
        chance_loss: float | None = None,
        progress: Progress = silent,
        title: str = "train",
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self.feed, self.settings, self.place = feed, settings, place
        self.progress, self.title = progress, title
        self.fabric = fabric or make_fabric(settings)
        feed.place(self.fabric.device, self.fabric.global_rank, self.fabric.world_size)
        self.trainee = Trainee(network, method)
        if isinstance(method, PretrainMethod) and method.several_sizes:
            accept_sizes(network)
        if self.fabric.device.type != "mps":
            self.trainee.to(memory_format=torch.channels_last)
        if self.fabric.world_size > 1 and self.fabric.device.type == "cuda":
            share_statistics(self.trainee)
        steady = method.steady() if isinstance(method, PretrainMethod) else None
        groups = parameter_groups(self.trainee, settings, steady)
        self.wrapped, self.optimizer = self.fabric.setup(self.trainee, make_optimizer(groups, settings))
        self.teacher = method.teacher if isinstance(method, PretrainMethod) else None
        averaged = self.teacher is not None or settings.ema_decay > 0
        self.ema = Ema(self.trainee, settings.ema_decay, _memory(method)) if averaged else None
        if settings.gradient_checkpointing:  # after the average, which never needs a gradient
            recompute(network, True)
        follows: TeacherKind = method.follows if isinstance(method, JointMethod) else "self"
        self.ctx = LoopContext(self.fabric, self.trainee, self.ema, follows, settings.steps, self.teacher)
        self.watch = Watch(settings.steps, classes, chance_loss, tell, self.trainee)
        if isinstance(method, PretrainMethod):
            self.watch = PretrainWatch(
                settings.steps,
                self.trainee,
                directions=method.directions,
                chance_is_final=method.chance_is_final,
                tell=tell,
            )

    def run(self, stop: Callable[[int, float], bool] | None = None) -> Outcome:
        """Train from where the checkpoint is to the last step.

        Args:
            stop: Asked before each step with its number and the seconds spent; True ends the fit there.

        Raises:
            Diverged: The loss or a weight is no number any more.
        """
        start, figures = self._resume()
        loggers: tuple[Logger, ...] = ()
        if self.place is not None and self.fabric.is_global_zero:
            loggers = make_loggers(
                self.place.log, self.place.trackers, self.place.name, start, self.place.tracked
            )
        begun = saved = time.monotonic()
        step = start
        try:
            for step in range(start, self.settings.steps):
                if stop is not None and self._stopped(stop, step, time.monotonic() - begun):
                    break
                if isinstance(self.watch, PretrainWatch) and step and self._hopeless(step):
                    break
                seen = self._step(step)
                if seen is not None:
                    figures = seen
                    for logger in loggers:
                        logger.log(step, {**figures, "lr": float(self.optimizer.param_groups[0]["lr"])})
                self.progress(self.title, step + 1, self.settings.steps)
                if self.place is not None and time.monotonic() - saved > _CHECKPOINT_SECONDS:
                    self.save(step + 1, figures)
                    saved = time.monotonic()
            else:
                step = self.settings.steps
        finally:
            for logger in loggers:
                logger.close()
            if self.settings.gradient_checkpointing:
                recompute(self.trainee.network, False)
        final = self._final()
        if not all(_finite(part) for part in (final.network, *_heads(final.network, final.method))):
            raise Diverged(f"the weights are no numbers after step {step} of {self.settings.steps}: {CURE}")
        found = tuple(self.watch.findings.values())
        return Outcome(final.network, final.method, step, found, figures, time.monotonic() - begun)

    def _final(self) -> Trainee:
        """Return what the fit leaves."""
        stays = self.teacher is not None and self.trainee.method.leaves == "student"
        if self.ema is None or stays:
            return self.trainee
        assert isinstance(self.ema.module, Trainee)
        return self.ema.module

    def _step(self, step: int) -> dict[str, float] | None:
        settings = self.settings
        torch.manual_seed(derive(settings.seed, "network", step, self.fabric.global_rank))
        set_lr(self.optimizer, step, settings)
        self.ctx.step = step
        self.trainee.train()
        losses: list[Tensor] = []
        for part in range(settings.accumulate):
            errand = Errand(self.feed.batch(step, part), self.ctx)
            with self.fabric.no_backward_sync(self.wrapped, enabled=part < settings.accumulate - 1):
                loss = self.wrapped(errand)
                self._backward(loss / settings.accumulate)
            losses.append(loss.detach())
        if settings.clip:
            self.fabric.clip_gradients(
                self.wrapped, self.optimizer, max_norm=settings.clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.ema is not None:
            self.ema.update(self._decay(step))
        self.trainee.method.after_step(self.ctx)
        # The loss of all: every process then sees in the same step that it is no number.
        loss = self.ctx.reduce(torch.stack(losses).mean()) / self.ctx.world_size
        return self.watch.see_batch(step, replace(errand.step, loss=loss), errand.batch)

    def _decay(self, step: int) -> float | None:
        """Return the decay of a method's teacher at a step; None: the constant one, for methods without one."""
        if self.teacher is None:
            return None
        return self.teacher.decay_at(step, self.settings.steps, self.settings.ema_decay)

    def _backward(self, loss: Tensor) -> None:
        if self.settings.gradient_checkpointing:
            with statistics_stand_still(self.trainee):
                self.fabric.backward(loss)
        else:
            self.fabric.backward(loss)

    def _stopped(self, stop: Callable[[int, float], bool], step: int, seconds: float) -> bool:
        """Ask whether the fit ends here; the first process decides for all, whose clocks differ."""
        if self.fabric.world_size == 1:
            return stop(step, seconds)
        said = self.fabric.is_global_zero and stop(step, seconds)
        return bool(self.ctx.reduce(torch.tensor(float(said), device=self.fabric.device)))

    def _hopeless(self, step: int) -> bool:
        """Say whether no further step will help, as the first process sees it; asked where it has just looked."""
        if step % self.watch.every:
            return False
        said = torch.tensor(
            float(self.fabric.is_global_zero and self.watch.hopeless), device=self.fabric.device
        )
        return bool(self.ctx.reduce(said))

    def save(self, step: int, figures: dict[str, float]) -> None:
        """Keep everything that the next step depends on."""
        if self.place is not None and self.fabric.is_global_zero:
            self.place.folder.mkdir(parents=True, exist_ok=True)
            save_checkpoint(
                self.place.checkpoint,
                self.trainee,
                self.ema,
                self.optimizer,
                self.settings,
                step,
                {"figures": figures, "watch": self.watch.state(), "scaler": self._scaler().state_dict()},
            )

    def _resume(self) -> tuple[int, dict[str, float]]:
        """Return the steps that are done and the last figures."""
        if self.place is None:
            return 0, {}
        step, extra = load_checkpoint(
            self.place.checkpoint, self.trainee, self.ema, self.optimizer, self.settings
        )
        if step:
            self.watch.restore(extra["watch"])
            self._scaler().load_state_dict(extra["scaler"])
        return step, dict(extra.get("figures", {}))

    def _scaler(self) -> Any:
        """Return what keeps the scale of the loss in half precision; it has no state in others."""
        return self.fabric.strategy.precision


def time_steps(loop: Loop, count: int = 3) -> float:
    """Return the seconds that a step takes on this machine now: the fastest of a few, after one to warm up.

    The loop is used up by it: its network has taken the steps.
    """
    times = []
    for step in range(count + 1):
        begun = time.monotonic()
        loop._step(step % loop.settings.steps)
        if loop.fabric.device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.monotonic() - begun)
    return min(times[1:])


def make_fabric(settings: LoopSettings, device: str = "auto") -> Fabric:
    """Return the device, precision and processes to train with.

    Under torchrun or srun all their processes take part; without, this one does.

    Args:
        settings: Says the precision.
        device: ``auto`` (CUDA, else Apple's MPS, else CPU), ``cpu``, ``cuda`` or ``mps``.

    Raises:
        ConfigError: The device does not compute with such numbers.
    """
    import os

    precision = {"fp32": "32-true", "bf16": "bf16-mixed", "fp16": "16-mixed"}[settings.precision]
    processes = process_count()
    local = int(os.environ.get("LOCAL_WORLD_SIZE", os.environ.get("SLURM_NTASKS_PER_NODE", str(processes))))
    strategy = "ddp" if processes > 1 else "auto"
    fabric = Fabric(
        accelerator=device,
        strategy=strategy,
        devices=local if processes > 1 else 1,
        num_nodes=max(1, processes // local),
        precision=precision,
    )
    check_precision(settings.precision, fabric.device.type)
    if processes > 1:
        fabric.launch()
    return fabric


def share_statistics(trainee: Trainee) -> None:
    """Make every BatchNorm of network and method one over all processes; weights and names stay."""
    from timm.layers import convert_sync_batchnorm

    for part in (trainee.network, trainee.method):
        for name, child in part.named_children():
            setattr(part, name, convert_sync_batchnorm(child))


def _heads(network: nn.Module, method: Method) -> list[nn.Module]:
    """Return what predicts: the network's head, and the method's own where it has one."""
    own = method.prediction_head() if isinstance(method, JointMethod) else None
    return [head for head in (getattr(network, "head", None), own) if isinstance(head, nn.Module)]


def _memory(method: Method) -> list[Tensor]:
    """Return the buffers of a method that no prediction reads: its statistics and memories are no part of a model."""
    if isinstance(method, PretrainMethod):
        return method.memory()
    own = method.prediction_head() if isinstance(method, JointMethod) else None
    read = {id(buffer) for buffer in own.buffers()} if own is not None else set[int]()
    return [buffer for buffer in method.buffers() if id(buffer) not in read]


def _finite(module: nn.Module) -> bool:
    """Say whether all weights and statistics are numbers."""
    tensors = [t for t in (*module.parameters(), *module.buffers()) if t.is_floating_point()]
    return bool(torch.stack([torch.isfinite(t).all() for t in tensors]).all()) if tensors else True


__all__ = ["Diverged", "Loop", "Outcome", "Place", "make_fabric", "time_steps"]
