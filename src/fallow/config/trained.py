"""Keys of what trains a network: the network, its steps, the augmentation, and the rungs' own."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import Field, ValidationInfo, field_validator

from fallow.config.base import Auto, Section, WeightsFile
from fallow.config.names import RUNG_METHODS, check_name

_SMALL_NET = "small_resnet_"

Share = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0)]


def check_backbone(name: str) -> str:
    """Return the name of a network that can be trained.

    Raises:
        ValueError: It is none.
    """
    if name.startswith(_SMALL_NET) and not re.fullmatch(r"[1-9]\d{0,3}", name.removeprefix(_SMALL_NET)):
        raise ValueError(f"give the width behind it, as in {_SMALL_NET}32")
    if name == "pixels" or "+" in name:
        raise ValueError("one network is trained: give one timm name, or small_resnet_32")
    return name


class BackboneConfig(Section):
    """The name of a network that is trained."""

    backbone: str = Field(
        "auto",
        description="timm model name, `torchvision/NAME`, small_resnet_WIDTH for small images, as in small_resnet_32, or the folder of a "
        "`fallow pretrain` run. "
        "auto: by image size and what is at hand.",
    )

    @field_validator("backbone")
    @classmethod
    def _backbone(cls, value: str) -> str:
        return check_backbone(value)


class LearnerConfig(Section):
    """Where a network starts, whatever it is called by."""

    weights: WeightsFile = Field(
        None, description="File with the weights to start from (.safetensors, .pt, .pth), loaded strictly."
    )
    size: Annotated[int, Field(ge=8, le=1024)] | Auto = Field(
        "auto", description="Side in pixels of the square the network sees. auto: by image size and budget."
    )
    init: Literal["auto", "pretrained", "scratch"] = Field(
        "auto",
        description="What training starts from: pretrained weights, or scratch (random ones). "
        "auto: pretrained where there are weights for such images.",
    )

    @field_validator("init")
    @classmethod
    def _init(cls, value: str, info: ValidationInfo) -> str:
        if value == "scratch" and info.data.get("weights") is not None:
            raise ValueError("network.weights are given to start from; leave one of the two out")
        return value


class StartConfig(LearnerConfig, BackboneConfig):
    """The network that is trained, and where it starts: what all training shares."""


class TrainableConfig(LearnerConfig):
    """What of a network may change."""

    trainable: Literal["auto", "head", "last", "lora", "all"] = Field(
        "auto",
        description="What may change: head, last (head and last blocks), lora (head and low-rank adapters; needs peft), or all. auto: all from scratch, else by device "
        "and number of labels.",
    )


class NetworkConfig(TrainableConfig, StartConfig):
    """The network that is trained."""

    views: Annotated[int, Field(ge=0, le=64)] | Auto = Field(
        "auto",
        description="Noised views of each unlabeled image that the frozen part of the network is run on, once, on a CPU; "
        "training draws from them. 0: images are noised anew in each step. auto: by budget.",
    )


class StepsConfig(Section):
    """How a network's steps are taken: what all training shares."""

    optimizer: Literal["auto", "adamw", "sgd", "lamb"] = Field(
        "auto",
        description="Rule of the steps: adamw, sgd, or lamb (large batches). auto: adamw.",
    )
    lr: Positive | Auto = Field(
        "auto",
        description="Highest learning rate, at the end of the warm-up. auto: searched where labels and "
        "time allow, around 0.002 from scratch and 0.0004 for a pretrained network.",
    )
    weight_decay: Annotated[float, Field(ge=0)] | Auto = Field(
        "auto",
        description="Pull of the weights to zero. auto: searched where labels and time allow, else 0.05.",
    )
    batch_size: Annotated[int, Field(ge=1, le=65536)] | Auto = Field(
        "auto", description="Images a step, over all processes. auto: by images and memory."
    )
    warmup: Annotated[float, Field(ge=0, le=0.5)] | Auto = Field(
        "auto", description="Share of the steps in which the learning rate rises. auto: 0.05."
    )
    ema_decay: Share | Auto = Field(
        "auto",
        description="How slowly the averaged weights follow: 0 keeps no average. auto: looks back over a twentieth of the steps.",
    )
    clip: Positive | Auto = Field(
        "auto",
        description="Longest gradient that is taken as it is; longer ones are shortened. auto: 1.",
    )
    steps: Annotated[int, Field(ge=1)] | Auto = Field(
        "auto", description="Steps of each fit. auto: by data and budget, decided before the first."
    )
    precision: Literal["auto", "fp32", "bf16", "fp16"] = Field(
        "auto",
        description="Numbers that a network computes with. auto: bf16 where a GPU has it, else fp32.",
    )
    accumulate: Annotated[int, Field(ge=1, le=1024)] | Auto = Field(
        "auto",
        description="Parts that a batch is computed in, to save memory. auto: 1.",
    )
    gradient_checkpointing: bool = Field(
        False, description="Compute activations twice instead of keeping them: slower, half the memory."
    )


class OptimizationConfig(StepsConfig):
    """How a network's steps are taken on labeled and unlabeled images."""

    batch_size: Annotated[int, Field(ge=1, le=65536)] | Auto = Field(
        "auto", description="Labeled images a step, over all processes. auto: 32, less with fewer labels."
    )
    unlabeled_ratio: Annotated[int, Field(ge=1, le=64)] | Auto = Field(
        "auto",
        description="Unlabeled images a step for each labeled one. auto: 3 from scratch, 1 for a pretrained network.",
    )


class AugmentConfig(Section):
    """What may be changed in a training image."""

    strength: Annotated[float, Field(ge=0, le=1)] | Auto = Field(
        "auto",
        description="How strong strong views are, as a share of the limits of each transform. auto: searched where labels "
        "and time allow, else 1.",
    )
    picks: Annotated[int, Field(ge=0, le=6)] | Auto = Field(
        "auto", description="Transforms in one strong view. auto: 2."
    )
    mix: Literal["auto", "none", "mixup", "cutmix"] = Field(
        "auto",
        description="Two labeled images in one: none, mixup (blended), cutmix (a patch). auto: none, or "
        "mixup where a search finds it better.",
    )


class JointConfig(Section):
    """Training on labeled and unlabeled images together."""

    unlabeled_weight: Annotated[float, Field(ge=0)] | Auto = Field(
        "auto",
        description="Weight of the unlabeled images' loss against the labeled ones'. auto: the method's.",
    )
    teacher: Literal["auto", "self", "ema"] = Field(
        "auto",
        description="Who labels the unlabeled images: the network itself, or ema, its average. auto: the method's.",
    )
    guide: Literal["auto", "propagate", "none"] = Field(
        "auto",
        description="Who has to agree with the network before an unlabeled image counts: propagate (label propagation, where "
        "it was climbed) or none. auto: propagate for a network from scratch.",
    )
    foreign: Literal["auto", "keep", "drop"] = Field(
        "auto",
        description="What is done with unlabeled images of no class: keep or drop. auto: drop those that are "
        "far from every class.",
    )


class PretrainRungConfig(Section):
    """The network learns from the unlabeled images alone before labels are spread over what it sees."""

    method: str = Field(
        "auto",
        description=f"How it learns: {', '.join(RUNG_METHODS)}. auto: as fallow pretrain would.",
    )

    @field_validator("method")
    @classmethod
    def _method(cls, value: str) -> str:
        if value != "auto":
            check_name(value, "a method of this rung", RUNG_METHODS)
        return value


class NoisyStudentConfig(Section):
    """The best model so far labels everything and teaches a student that is made to work harder."""

    rounds: Annotated[int, Field(ge=1, le=10)] | Auto = Field(
        "auto",
        description="How often a student becomes the next teacher. auto: 1, or 2 where there are steps enough.",
    )
    dropout: Share | Auto = Field(
        "auto", description="Share of the student's features that are left out at random. auto: 0.1."
    )
    drop_path: Share | Auto = Field(
        "auto", description="Share of the student's blocks that are left out at random. auto: 0."
    )
