"""Jigsaw: in which order were the patches of the image?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fallow.augment import Policy, resized_crop_policy
from fallow.errors import ConfigError
from fallow.methods.base import Batch, MethodInfo, Step, Views
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.parts import float32, mlp, width
from fallow.methods.pretrain.patches import CELLS, Puzzle, draw_places, even, far_orders

_ORDERS, _FEW_ORDERS, _FEW_IMAGES = 100, 24, 5000


class Jigsaw(PretrainMethod):
    """Minimize the cross-entropy of the order in which nine patches of an image are shown.

    Noroozi and Favaro 2016, arXiv 1603.09246, sec. 3: the network sees each patch by itself; what it says of the nine, one behind
    the other, is to name their order among ``orders`` that are far from each other. Gaps, random places within them, gray images,
    and the same mean and spread in every patch keep it from reading the order off edges and colors.

    Args:
        orders: Orders that are told apart, 2 to 362,880; None: 100, and 24 where there are fewer than 5,000 images, of which a short run
            begins to learn sooner (500 CIFAR-10 images, 160 steps: the loss falls to 65 % of its chance value, with 100 to 81 %).
        share: Side of a patch as a share of a third of the image's.
        out: Width of what is said of a patch.
        hidden: Width of the head's hidden layer; None: four times that of the features (4,096 in the paper).
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="jigsaw",
        title="in which order were the nine patches of the image?",
        family="pretrain",
        paper="Noroozi and Favaro 2016, arXiv 1603.09246",
        needs=("unlabeled",),
        suits="objects with parts that have their places, from 64 pixels on; of little use for textures and views from above",
        cost=1.5,
    )
    views = Views(labeled=(), unlabeled=("first",))
    least_batch = 16
    chance_is_final = False
    several_sizes = True

    order: Tensor

    def __init__(
        self, *, orders: int | None = None, share: float = 64 / 75, out: int = 128, hidden: int | None = None
    ) -> None:
        super().__init__()
        if orders is not None and not 2 <= orders <= math.factorial(CELLS):
            raise ConfigError(f"options.orders={orders}: nine patches have 2 to 362,880 orders to tell apart")
        self.asked, self.share, self.out, self.hidden = orders, share, out, hidden

    def augmentations(
        self, size: int, *, gray: bool = False, flips: Sequence[str] = ("hflip",)
    ) -> dict[str, Policy]:
        """Return most of the image, its colors changed a little, gray now and then; a flip from left to right at most."""
        policy = resized_crop_policy(
            (0.6, 1.0),
            gray_share=0.3,
            blur_share=0.0,
            flips=[flip for flip in flips if flip == "hflip"],
            gray=gray,
            size=(size, size),
            name="jigsaw",
        )
        return {"first": policy}

    def make(self, dim: int) -> None:
        """Make the head and the orders."""
        usual = _FEW_ORDERS if self.n_images < _FEW_IMAGES else _ORDERS
        self.orders = usual if self.asked is None else self.asked
        self.narrow = nn.Linear(dim, self.out)
        self.projector = mlp(CELLS * self.out, width(self.hidden, dim, 4), self.orders)
        self.register_buffer("order", far_orders(self.orders).clone(), persistent=False)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the mean cross-entropy."""
        (images,) = batch.unlabeled
        puzzle = Puzzle.of(images.shape[-1], self.share, self.tokens)
        places, _ = draw_places(ctx, len(images), images.device)
        which = torch.randint(self.orders, (len(images),), device=images.device)
        patches = even(puzzle.cut(images, places))
        mixed = patches[torch.arange(len(images), device=images.device)[:, None], self.order[which]]
        (features,) = ctx.features(mixed.flatten(0, 1))
        answers = self.projector(self.narrow(features).unflatten(0, (-1, CELLS)).flatten(1))
        with float32(answers):
            loss = cross_entropy(answers.float(), which)
        right = (answers.argmax(1) == which).float().mean()
        health = {"chance_loss": loss.new_tensor(math.log(self.orders)), "features": features.detach()}
        return Step(loss, {"orders_right": right}, health)
