"""PIRL: what is said of an image is what is said of its patches in any order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import log_softmax, normalize

from fallow.augment import Policy, resized_crop_policy
from fallow.methods.base import Batch, MethodInfo, Step, Views
from fallow.methods.pretrain.base import PretrainContext, PretrainMethod
from fallow.methods.pretrain.memory import Memory
from fallow.methods.pretrain.parts import float32
from fallow.methods.pretrain.patches import CELLS, Puzzle, draw_places

_MOST = 1 - 1e-6


class PIRL(PretrainMethod):
    """Find each image in a memory bank by the image itself, and by its nine patches in a random order.

    Misra and van der Maaten 2019, arXiv 1912.01991, eq. 3 to 5: of an image and of its patches alike the own entry of the bank is
    to be the likely one, and no other. Entries follow what is said of the image.

    Args:
        temperature: Divides the cosines.
        momentum: Share of an entry of the bank that stays when its image is seen again.
        negatives: Entries of the bank that an image is compared with at most.
        puzzles: Weight of the loss of the patches; the image's own has the rest of 1.
        share: Side of a patch as a share of a third of the image's.
        out: Width of an entry.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="pirl",
        title="an image and its shuffled patches find their entry in a memory bank",
        family="pretrain",
        paper="Misra and van der Maaten 2019, arXiv 1912.01991",
        needs=("unlabeled",),
        suits="small batches of photos of objects, from 64 pixels on: all other images are there to be told from",
        cost=2.0,
    )
    views = Views(labeled=(), unlabeled=("first", "puzzle"))
    least_batch = 16
    several_sizes = True

    bank: Memory

    def __init__(
        self,
        *,
        temperature: float = 0.07,
        momentum: float = 0.5,
        negatives: int = 32000,
        puzzles: float = 0.5,
        share: float = 64 / 85,
        out: int = 128,
    ) -> None:
        super().__init__()
        self.temperature, self.momentum, self.negatives = temperature, momentum, negatives
        self.puzzles, self.share, self.out = puzzles, share, out

    def augmentations(
        self, size: int, *, gray: bool = False, flips: Sequence[str] = ("hflip",)
    ) -> dict[str, Policy]:
        """Return a crop for the image, and most of the image for the patches; colors change in both."""
        first, puzzle = (
            resized_crop_policy(
                (least, 1.0),
                jitter=(0.4, 0.4, 0.4, 0.2),
                blur_share=0.0,
                flips=flips,
                gray=gray,
                size=(size, size),
                name=f"pirl {name}",
            )
            for least, name in ((0.08, "image"), (0.6, "patches"))
        )
        return {"first": first, "puzzle": puzzle}

    def make(self, dim: int) -> None:
        """Make the projections and the bank, which begins at random."""
        self.projector = nn.Linear(dim, self.out)
        self.narrow = nn.Linear(dim, self.out)
        self.join = nn.Linear(CELLS * self.out, self.out)
        self.bank = Memory(self.n_images, self.out)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the loss."""
        images, others = batch.unlabeled
        cut = Puzzle.of(others.shape[-1], self.share, self.tokens)
        places, order = draw_places(ctx, len(others), others.device)
        whole, parts = ctx.features(images, cut.cut(others, places).flatten(0, 1))
        apart = self.narrow(parts).unflatten(0, (-1, CELLS))
        mixed = apart[torch.arange(len(others), device=others.device)[:, None], order].flatten(1)
        said, guessed = self.projector(whole), self.join(mixed)
        with float32(said):
            units, puzzled = (normalize(x.float(), dim=1) for x in (said, guessed))
            entries, strangers = self.bank.company(batch.index, self.negatives)
            own = self.bank.values[batch.index]
            by_patches, by_image = (self._miss(x, own, entries, strangers) for x in (puzzled, units))
            loss = self.puzzles * by_patches + (1 - self.puzzles) * by_image
            number = strangers.sum(1).float().clamp_min(1)
            chance = (number.log1p() + number * (1 / number).log1p()).mean()
        self.bank.remember(ctx.gather(units.detach()), ctx.gather(batch.index), self.momentum)
        health = {
            "chance_loss": chance,
            "embeddings": units.detach(),
            "partners": puzzled.detach(),
            "features": whole.detach(),
        }
        return Step(loss, {"by_patches": by_patches.detach(), "by_image": by_image.detach()}, health)

    def _miss(self, units: Tensor, own: Tensor, entries: Tensor, strangers: Tensor) -> Tensor:
        """Return -log h of the own entry less log (1 - h) of all others, h being their shares (eq. 3 and 4)."""
        logits = (units @ entries.T).masked_fill(~strangers, -torch.inf)
        found = log_softmax(torch.cat([(units * own).sum(1, keepdim=True), logits], 1) / self.temperature, 1)
        wrongly = found[:, 1:].exp().clamp_max(_MOST)
        return (-found[:, 0] - torch.log1p(-wrongly).sum(1)).mean()
