"""Images per second of the strong policy on one core, beside torchvision's transforms image by image.

    python benchmarks/augment_speed.py [--rounds 5] [--out augment_speed.json]

Both shift, mirror, draw two of RandAugment's transforms per image and cut a hole, on float tensors in memory. Batched
is `strong_policy` on the whole batch; one by one is torchvision v2 (RandomCrop with mirrored border,
RandomHorizontalFlip, RandAugment, RandomErasing) called for each image, as a data loader's worker does it, on uint8,
which is faster there. Gray images have one channel in both. They take turns, round by round, so that a busy machine slows both, and the time is that of the
processor; ratios are medians over rounds of same-round ratios. What a training step costs beside is
measured on a small residual network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torchvision
from torch import Tensor, nn
from torchvision.transforms import v2

from fallow.augment import default_limits, strong_policy

CASES = (  # side, images in a batch, gray
    (8, 256, True),
    (28, 256, True),
    (32, 256, False),
    (96, 64, False),
    (160, 32, False),
)


def batched(images: Tensor, gray: bool) -> Callable[[], Tensor]:
    policy = strong_policy(default_limits(gray), gray=gray)
    generator = torch.Generator().manual_seed(0)
    return lambda: policy(images, generator)[0].contiguous()


def one_by_one(images: Tensor, gray: bool) -> Callable[[], Tensor]:
    side = images.shape[-1]
    steps = [v2.RandomCrop(side, padding=max(1, side // 8), padding_mode="symmetric")]
    steps += [] if gray else [v2.RandomHorizontalFlip()]
    steps += [
        v2.RandAugment(2, 10, interpolation=v2.InterpolationMode.BILINEAR),
        v2.ToDtype(torch.float32, scale=True),
        v2.RandomErasing(p=1.0, scale=(0.02, 0.25), ratio=(1, 1)),
    ]
    chain = v2.Compose(steps)
    stored = (images[:, :1] if gray else images).mul(255).round().byte()
    return lambda: torch.stack([chain(image) for image in stored]).expand(-1, 3, -1, -1).contiguous()


class Block(nn.Module):
    def __init__(self, width: int, out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(width, out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(),
            nn.Conv2d(out, out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.side = (
            nn.Conv2d(width, out, 1, stride, bias=False) if (width, stride) != (out, 1) else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.body(x) + self.side(x))


def training_step(images: Tensor) -> Callable[[], Tensor]:
    """Return one step of a small residual net: 32 channels, then 64 and 128 at half and a quarter of the side."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1, bias=False),
        Block(32, 32, 1),
        Block(32, 64, 2),
        Block(64, 128, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    ).to(memory_format=torch.channels_last)
    x = images.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(net.parameters(), 0.01)

    def step() -> Tensor:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), torch.zeros(len(x), dtype=torch.long))
        loss.backward()
        optimizer.step()
        return loss.detach()

    return step


def seconds(run: Callable[[], Tensor]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def measure(side: int, count: int, gray: bool, rounds: int) -> dict[str, object]:
    rough = torch.rand(count, 1 if gray else 3, 8, 8, generator=torch.Generator().manual_seed(1))
    images = nn.functional.interpolate(rough, side, mode="bilinear").expand(-1, 3, -1, -1).contiguous()
    ways = {
        "batched": batched(images, gray),
        "one_by_one": one_by_one(images, gray),
        "training_step": training_step(images),
    }
    spent: dict[str, list[float]] = {name: [] for name in ways}
    for run in ways.values():
        run()
    for _ in range(rounds):
        for name, run in ways.items():
            spent[name].append(seconds(run))

    def ratio(above: str, below: str) -> float:
        pairs = zip(spent[above], spent[below], strict=True)
        return statistics.median(a / b for a, b in pairs)

    return {
        "side": side,
        "batch": count,
        "gray": gray,
        "images_per_second": {name: round(count / statistics.median(s)) for name, s in spent.items()},
        "times_one_by_one": round(ratio("one_by_one", "batched"), 1),
        "share_of_training_step": round(ratio("batched", "training_step"), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed of augmentation on one core.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    rows = [measure(*case, options.rounds) for case in CASES]
    print(f"{'':<18}{'batched':>10}{'one by one':>12}{'ratio':>8}{'share of a training step':>27}")
    for row in rows:
        rates = row["images_per_second"]
        name = f"{row['side']} px, {'gray' if row['gray'] else 'color'}"
        print(
            f"{name:<18}{rates['batched']:>10}{rates['one_by_one']:>12}"
            f"{row['times_one_by_one']:>8}{100 * row['share_of_training_step']:>25.1f} %"
        )
    result = {
        "threads": 1,
        "rounds": options.rounds,
        "cores": os.cpu_count(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
        "rows": rows,
    }
    if options.out:
        options.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
