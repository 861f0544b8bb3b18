"""Where each image lies on the cluster map, which images are on it, and how small they are drawn."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from fallow.data import ImageError, stratified
from fallow.errors import RunError

if TYPE_CHECKING:
    from PIL import Image

Layout = Literal["t-SNE", "UMAP"]
MAX_POINTS = 2000
_FEWEST = 200  # points; below this a map shows nothing
_SECONDS_AT_MAX = 10.0  # t-SNE of 2,000 points on one busy core; 6 on a free one
_PCA = 50  # dimensions t-SNE works on; the paper's own choice


def choose_map_points(
    labeled: Sequence[int] | NDArray[np.integer],
    pool: Sequence[int] | NDArray[np.integer],
    pool_classes: Sequence[int] | NDArray[np.integer] | None = None,
    *,
    max_points: int = MAX_POINTS,
    seconds: float | None = None,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Choose which images are drawn: the labeled first, then a sample of the pool, stratified by class.

    Args:
        labeled: Row numbers of labeled images.
        pool: Row numbers of unlabeled images.
        pool_classes: (len(pool),) class each is taken for; small classes keep at least their share, rounded
            up. None samples evenly.
        max_points: At most so many.
        seconds: Time there is for `map_layout`; fewer points when it is short.
        seed: Seed of the sample.

    Returns:
        Row numbers, labeled first, in ascending order within the two parts.
    """
    rng = np.random.default_rng(seed)
    if seconds is not None:
        max_points = min(max_points, max(_FEWEST, int(MAX_POINTS * seconds / _SECONDS_AT_MAX)))
    first = np.asarray(labeled, dtype=np.int64)
    rest = np.asarray(pool, dtype=np.int64)
    if len(first) > max_points:
        return np.sort(rng.permutation(first)[:max_points])
    room = min(max_points - len(first), len(rest))
    if room < len(rest):
        classes = np.zeros(len(rest), dtype=np.int64) if pool_classes is None else np.asarray(pool_classes)
        rest = rest[stratified(classes, room, rng)]
    return np.concatenate([np.sort(first), np.sort(rest)])


def layout_method(how: Literal["auto", "umap", "tsne"]) -> Layout:
    """Return by what a map is laid out: what was asked for, or UMAP where it is installed.

    Raises:
        RunError: UMAP was asked for and is not installed.
    """
    if how != "tsne":
        try:
            import umap  # noqa: F401
        except ImportError as error:
            if how == "umap":
                raise RunError(
                    "a map by UMAP needs umap-learn: pip install 'fallow[map]', or take another: --map tsne"
                ) from error
        else:
            return "UMAP"
    return "t-SNE"


def map_layout(
    features: NDArray[np.floating], seed: int = 0, max_points: int = MAX_POINTS, by: Layout = "t-SNE"
) -> NDArray[np.float32]:
    """Lay vectors out on a plane so that neighbors stay neighbors: t-SNE or UMAP, and PCA below 10 points.

    Vectors are made unit length and reduced to 50 dimensions by PCA first (van der Maaten and Hinton, 2008,
    section 4.2); the plane starts as the first two of these, so that the picture does not turn with the seed.
    Rows beyond ``max_points`` are placed at the mean of their three nearest rows among the first.

    Args:
        features: (n, d); give rows in order of importance when there are more than ``max_points``.
        seed: Seed of t-SNE.
        max_points: Rows that are laid out themselves: 2,000 take about ten seconds on two cores.
        by: The method; see `layout_method`.

    Returns:
        (n, 2) float32, within -1..1. The same input gives the same output.
    """
    z = np.nan_to_num(np.asarray(features, dtype=np.float32))
    if z.ndim != 2:
        raise ValueError(f"features should be (n, d), not {z.shape}")
    if len(z) < 3:
        return np.asarray([[2 * i - len(z) + 1, 0] for i in range(len(z))], np.float32).reshape(-1, 2)
    z = z / np.maximum(np.linalg.norm(z, axis=1, keepdims=True), 1e-12)
    head = _reduced(z[:max_points], seed)
    plane = _padded(head) if len(head) < 10 or float(np.ptp(head)) == 0 else _LAYOUTS[by](head, seed)
    if len(z) > max_points:
        nearest = np.argsort(-(z[max_points:] @ z[:max_points].T), axis=1, kind="stable")[:, :3]
        plane = np.concatenate([plane, plane[nearest].mean(1)])
    plane = plane - (plane.max(0) + plane.min(0)) / 2
    return np.asarray(plane / max(float(np.abs(plane).max()), 1e-12), dtype=np.float32)


def _reduced(z: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    from sklearn.decomposition import PCA

    if float(z.var(0).sum()) == 0:
        return np.zeros((len(z), 2), np.float32)
    dims = min(_PCA, z.shape[1], len(z) - 1)
    solver = "randomized" if min(z.shape) > 4 * _PCA else "full"
    return np.asarray(PCA(dims, svd_solver=solver, random_state=seed).fit_transform(z), dtype=np.float32)


def _padded(z: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the first two columns, zeros where there is only one."""
    return np.pad(z[:, :2], ((0, 0), (0, max(0, 2 - z.shape[1]))))


def _tsne(z: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits

    start = _padded(z) / max(float(np.std(z[:, 0])), 1e-12) * 1e-4
    perplexity = min(30.0, (len(z) - 1) / 3)
    steps = 500 if len(z) > 500 else 1000
    tsne = TSNE(perplexity=perplexity, init=start, max_iter=steps, learning_rate="auto", random_state=seed)
    with threadpool_limits(1):  # its threads gain little, and on a busy machine they wait for one another
        return np.asarray(tsne.fit_transform(z), dtype=np.float32)


def _umap(z: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """Lay out by UMAP (McInnes et al. 2018, arXiv 1802.03426), from the first two principal components on."""
    import warnings

    from umap import UMAP

    start = 10 * _padded(z) / max(float(np.abs(z[:, :2]).max()), 1e-12)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries below it, about threads and what is deprecated
        made = UMAP(n_neighbors=min(15, len(z) - 1), init=start, random_state=seed, n_jobs=1).fit_transform(z)
    return np.asarray(made, dtype=np.float32)


_LAYOUTS: dict[Layout, Callable[[NDArray[np.float32], int], NDArray[np.float32]]] = {
    "t-SNE": _tsne,
    "UMAP": _umap,
}


def thumbnail(pixels: NDArray[np.uint8] | Image.Image, side: int = 72, quality: int = 60) -> bytes:
    """Return an image as WebP bytes whose longer side is ``side``; tiny images are enlarged without blur.

    Args:
        pixels: uint8 (H, W) or (H, W, 3), or a PIL image.
        side: Longer side in pixels; 72 costs about 1.3 kB.
        quality: WebP quality, 1..100.
    """
    from PIL import Image

    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image = image.convert("RGB")
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.NEAREST if scale >= 2 else Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=quality, method=4)
    return buffer.getvalue()


def picture(read: Callable[[str], NDArray[np.uint8]], id_: str, side: int) -> bytes | None:
    """Return a thumbnail of an image, None where it cannot be read (any more).

    Args:
        read: Returns the pixels of an id, uint8 (H, W, 3).
        id_: The image.
        side: Longer side in pixels.
    """
    try:
        return thumbnail(read(id_), side)
    except (ImageError, OSError):
        return None
