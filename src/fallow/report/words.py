"""Numbers as a person reads them; shared by the page and the terminal."""

from __future__ import annotations

from fallow.record import Counts, Interval

NAMES = {"finetune": "fine-tune", "noisy_student": "noisy student"}


def rung_title(rung: str) -> str:
    """Return a rung's name as a person reads it: ``joint:softmatch`` becomes ``softmatch``."""
    return NAMES.get(rung, rung.removeprefix("joint:"))


def percent(fraction: float, digits: int = 1) -> str:
    """Return ``27.4 %`` for 0.274."""
    return f"{100 * fraction:.{digits}f} %"


def points(gain: Interval) -> str:
    """Return a gain in percentage points with half its 95 % interval: ``+12.2 ± 4.1``."""
    value = round(100 * gain.value, 1)
    sign = "−" if value < 0 else "+" if value > 0 else ""
    return f"{sign}{abs(value):.1f} ± {50 * (gain.high - gain.low):.1f}"


def duration(seconds: float) -> str:
    """Return ``0.4 s``, ``9 s``, ``3 min 02 s`` or ``1 h 05 min``."""
    if seconds < 0.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s" if whole % 60 else f"{whole // 60} min"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes % 60 else f"{minutes // 60} h"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 file`` or ``1,638 files``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def beside_labels(counts: Counts, pool: bool, extra: bool) -> str:
    """Return what was learned from beside the labels: ``1,638 unlabeled and 500 extra images``.

    Args:
        counts: Images that took part.
        pool: The unlabeled images were learned from.
        extra: The labeled images of another origin were.
    """
    kinds = [f"{counts.unlabeled:,} unlabeled"] if pool or not extra else []
    kinds += [f"{counts.extra:,} extra"] if extra else []
    return " and ".join(kinds) + " images"


def counts_line(counts: Counts) -> str:
    """Return ``42 labeled · 1,638 unlabeled · 420 test · 21 classes``; empty splits are left out."""
    parts = [f"{counts.labeled:,} labeled"] if counts.labeled else []
    parts += [f"{counts.unlabeled:,} unlabeled"] if counts.unlabeled else []
    parts += [f"{counts.extra:,} extra"] if counts.extra else []
    parts += [f"{counts.validation:,} validation"] if counts.validation else []
    parts += [f"{counts.test:,} test"] if counts.test else []
    parts += [plural(counts.classes, "class", "classes")] if counts.classes else []
    return " · ".join(parts)
