"""Vision transformers from inside: tokens of the parts of an image, some of them hidden. For timm's ``VisionTransformer``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from fallow.models.network import Network


@dataclass(frozen=True)
class TokenInfo:
    """How a network cuts images into tokens.

    Attributes:
        dim: Channels of a token.
        patch: Side in pixels of the part that a token stands for.
        grid: Tokens along each side, at the size that the network was made for.
        prefix: Tokens in front that stand for no part (the class token, registers).
    """

    dim: int
    patch: int
    grid: int
    prefix: int

    @property
    def count(self) -> int:
        """Number of parts of an image."""
        return self.grid**2


def token_info(network: nn.Module) -> TokenInfo | None:
    """Return how a network cuts images into tokens; None: it is no plain vision transformer of timm's with square parts."""
    module = _transformer(network)
    if module is None:
        return None
    patch, grid = tuple(module.patch_embed.patch_size), tuple(module.patch_embed.grid_size)
    if len(set(patch)) > 1 or len(set(grid)) > 1:
        return None
    return TokenInfo(int(module.embed_dim), int(patch[0]), int(grid[0]), int(module.num_prefix_tokens))


def is_transformer(module: nn.Module) -> bool:
    """Say whether a backbone's network is a vision transformer of timm's."""
    from timm.models.vision_transformer import VisionTransformer

    return isinstance(module, VisionTransformer)


def encode_tokens(
    network: nn.Module,
    images: Tensor,
    *,
    kept: Tensor | None = None,
    hidden: Tensor | None = None,
    stand_in: Tensor | None = None,
) -> Tensor:
    """Return the last tokens of images, after the final norm.

    Args:
        network: Of which `token_info` knows.
        images: Float (n, 3, h, w) in 0..1.
        kept: Long (n, k): the parts that the network sees; the others are left out. None: all.
        hidden: Bool (n, parts): parts in whose place the network sees ``stand_in``.
        stand_in: (dim,).

    Returns:
        (n, prefix + k, dim).
    """
    module = _transformer(network)
    assert module is not None, "token_info says which networks have tokens"
    assert isinstance(network, Network)
    x = module.patch_embed(images * network.scale + network.shift)
    if hidden is not None and stand_in is not None:
        x = torch.where(hidden.view(*x.shape[:-1], 1), stand_in.to(x.dtype), x)
    x = module._pos_embed(x)
    if kept is not None:
        prefix = module.num_prefix_tokens
        parts = x[:, prefix:].gather(1, kept[:, :, None].expand(-1, -1, x.shape[2]))
        x = torch.cat([x[:, :prefix], parts], 1)
    found: Tensor = module.norm(module.blocks(module.norm_pre(x)))
    return found


def pool_tokens(network: nn.Module, tokens: Tensor) -> Tensor:
    """Return the features (n, dim) that a network makes of its last tokens: the class token, or the mean of the parts.

    Args:
        network: Of which `token_info` knows.
        tokens: What `encode_tokens` returned.
    """
    module = _transformer(network)
    assert module is not None, "token_info says which networks have tokens"
    found: Tensor = module.forward_head(tokens, pre_logits=True)
    return found


def accept_sizes(network: nn.Module) -> None:
    """Let a vision transformer take images of several sizes, position embedding resampled; its weights stay as they are."""
    module = _transformer(network)
    if module is None:
        return
    module.dynamic_img_size = True
    embed = module.patch_embed
    embed.strict_img_size, embed.flatten = False, False
    embed.output_fmt = type(embed.output_fmt)("NHWC")


def _transformer(network: nn.Module) -> Any:
    from timm.models.vision_transformer import VisionTransformer

    module = network.module if isinstance(network, Network) else None
    return module if isinstance(module, VisionTransformer) and module.pos_embed is not None else None
