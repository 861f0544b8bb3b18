"""MAE: a vision transformer sees a quarter of an image and paints the rest."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from fallow.methods.base import Batch, MethodInfo, Step
from fallow.methods.pretrain.base import PretrainContext
from fallow.methods.pretrain.crops import PlainCrop
from fallow.methods.pretrain.parts import float32

_EPS = 1e-6


class MAE(PlainCrop):
    """Minimize the squared error of the pixels of hidden parts, each part normalized by its own mean and variance.

    He et al. 2021, arXiv 2111.06377: the encoder sees the parts that are not hidden and nothing else; a small decoder sees its
    tokens, and one mask token in all other places, with fixed sine and cosine positions.

    Args:
        hidden_share: Share of the parts that is hidden.
        normalize_parts: Whether targets are normalized part by part.
        width: Channels of the decoder; None: half of the encoder's (512 for the paper's 1,024).
        depth: Blocks of the decoder.
        head_width: Channels of one of its attention heads.
    """

    info: ClassVar[MethodInfo] = MethodInfo(
        name="mae",
        title="a vision transformer sees a quarter of an image and paints the rest",
        family="pretrain",
        paper="He et al. 2021, arXiv 2111.06377",
        needs=("unlabeled", "vision transformer"),
        suits="vision transformers that are fine-tuned afterwards; no strong noise is needed, many passes are",
        cost=1.0,
    )
    needs_tokens = True
    least_batch = 16

    positions: Tensor

    def __init__(
        self,
        *,
        hidden_share: float = 0.75,
        normalize_parts: bool = True,
        width: int | None = None,
        depth: int = 8,
        head_width: int = 32,
    ) -> None:
        super().__init__()
        self.hidden_share, self.normalize_parts = hidden_share, normalize_parts
        self.width, self.depth, self.head_width = width, depth, head_width

    def make(self, dim: int) -> None:
        """Make the decoder."""
        from timm.models.vision_transformer import Block

        assert self.tokens is not None
        tokens, patch = self.tokens, self.tokens.patch
        wide = self.width or max(64, tokens.dim // 2)
        heads = max(1, wide // self.head_width)
        wide = wide // (4 * heads) * 4 * heads  # whole heads, and sines and cosines of both directions
        self.kept = max(1, round(tokens.count * (1 - self.hidden_share)))
        self.narrow = nn.Linear(tokens.dim, wide)
        self.stand_in = nn.Parameter(0.02 * torch.randn(wide))
        self.blocks = nn.Sequential(*(Block(wide, heads, 4.0, qkv_bias=True) for _ in range(self.depth)))
        self.norm, self.paint = nn.LayerNorm(wide), nn.Linear(wide, 3 * patch**2)
        places = torch.cat([torch.zeros(tokens.prefix, wide), sine_positions(tokens.grid, wide)])
        self.register_buffer("positions", places, persistent=False)

    def step(self, batch: Batch, ctx: PretrainContext) -> Step:
        """Return the error of the hidden parts."""
        assert self.tokens is not None
        (images,) = batch.unlabeled
        order = torch.rand(len(images), self.tokens.count, device=images.device).argsort(1)
        encoded = ctx.tokens(images, kept=order[:, : self.kept])
        painted = self.decode(encoded, order)
        with float32(painted):
            target = cut_parts(images.float(), self.tokens.patch)
            if self.normalize_parts:
                target = (target - target.mean(2, keepdim=True)) / (target.var(2, keepdim=True) + _EPS).sqrt()
            errors = (painted.float() - target).square().mean(2)
            hidden = order[:, self.kept :]
            loss = errors.gather(1, hidden).mean()
            unknown = (target - target.mean(2, keepdim=True)).square().mean(2).gather(1, hidden).mean()
        health = {"chance_loss": unknown, "features": encoded.mean(1).detach()}
        return Step(loss, health=health)

    def decode(self, encoded: Tensor, order: Tensor) -> Tensor:
        """Return pixels of all parts (n, parts, 3 patch^2), in their places.

        Args:
            encoded: Tokens of the encoder (n, prefix + kept, dim).
            order: (n, parts): the places of the parts, those that were kept first.
        """
        assert self.tokens is not None
        prefix, seen = self.tokens.prefix, self.narrow(encoded)
        n, parts, wide = len(seen), order.shape[1], seen.shape[2]
        hidden = self.stand_in.to(seen.dtype).expand(n, parts - self.kept, wide)
        shuffled = torch.cat([seen[:, prefix:], hidden], 1)
        placed = shuffled.gather(1, order.argsort(1)[:, :, None].expand(-1, -1, wide))
        x = torch.cat([seen[:, :prefix], placed], 1) + self.positions
        found: Tensor = self.paint(self.norm(self.blocks(x)))[:, prefix:]
        return found


def cut_parts(images: Tensor, patch: int) -> Tensor:
    """Return the pixels of square parts of images (n, 3, h, w), row by row: (n, parts, patch^2 * 3)."""
    n, channels, height, width = images.shape
    rows, columns = height // patch, width // patch
    cut = images.reshape(n, channels, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(n, rows * columns, -1)


def sine_positions(grid: int, width: int) -> Tensor:
    """Return fixed positions (grid^2, width): sines and cosines of row and column (Vaswani et al. 2017, arXiv 1706.03762)."""
    frequency = 1 / 10000 ** (torch.arange(width // 4) / (width / 4))
    along = torch.arange(grid)[:, None] * frequency
    waves = torch.cat([along.sin(), along.cos()], 1)
    rows = waves[:, None].expand(grid, grid, -1)
    return torch.cat([rows, waves[None].expand(grid, grid, -1)], 2).reshape(grid**2, width)
