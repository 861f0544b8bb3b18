"""What is done to a backbone's features before a linear head or a neighbor search sees them.

A feature map is fitted on features alone, never on labels: an optional signed power, an affine map
(centering, principal components, partial whitening) and unit length. It is a handful of arrays, so it exports
into any graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fallow.errors import DataError

Array = NDArray[np.float32]

_ROWS_AT_ONCE = 8192
_FIT_ROWS = 20_000
_TINY = 1e-12


@dataclass(frozen=True, eq=False)
class FeatureMap:
    """``x -> unit((sign(x) |x|^power - mean) @ matrix)``; `identity` leaves the features as they are.

    Attributes:
        mean: float32 (d,), subtracted after the power.
        matrix: float32 (d, k), or None for the identity (k = d).
        power: Exponent of the signed power; 1.0 leaves the features as they are.
        unit: False leaves the vectors as long as they are: a trained network's head was trained on them.
    """

    mean: Array
    matrix: Array | None = None
    power: float = 1.0
    unit: bool = True

    @classmethod
    def identity(cls, dim: int) -> FeatureMap:
        """Return the map that changes nothing, for a network that was trained with its head."""
        return cls(np.zeros(dim, np.float32), unit=False)

    @property
    def dim_in(self) -> int:
        """Number of features that go in."""
        return int(self.mean.shape[0])

    @property
    def dim_out(self) -> int:
        """Number of features that come out."""
        return self.dim_in if self.matrix is None else int(self.matrix.shape[1])

    def transform(self, features: NDArray[np.floating]) -> Array:
        """Map features (n, d) to vectors (n, k), float32, of length one. A vector at the mean itself stays zero.

        Raises:
            DataError: The features do not have as many columns as the map was fitted on.
        """
        if features.ndim != 2 or features.shape[1] != self.dim_in:
            raise DataError(
                f"The feature map expects (n, {self.dim_in}) features but got {features.shape}: "
                "use the backbone, size and views it was fitted with."
            )
        out = np.empty((len(features), self.dim_out), dtype=np.float32)
        for start in range(0, len(features), _ROWS_AT_ONCE):
            rows = slice(start, start + _ROWS_AT_ONCE)
            centered = _signed_power(features[rows], self.power) - self.mean
            mapped = centered if self.matrix is None else centered @ self.matrix
            out[rows] = unit_length(mapped) if self.unit else mapped
        return out

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays that define the map, for safetensors."""
        arrays = {"mean": self.mean, "power": np.asarray([self.power], dtype=np.float32)}
        if not self.unit:
            arrays["unit"] = np.zeros(1, np.float32)
        return arrays if self.matrix is None else {**arrays, "matrix": self.matrix}

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[np.floating]]) -> FeatureMap:
        """Build the map that ``state`` described."""
        matrix = arrays.get("matrix")
        return cls(
            mean=np.asarray(arrays["mean"], dtype=np.float32),
            matrix=None if matrix is None else np.ascontiguousarray(matrix, dtype=np.float32),
            power=float(np.asarray(arrays["power"]).reshape(-1)[0]),
            unit="unit" not in arrays or bool(np.asarray(arrays["unit"]).reshape(-1)[0]),
        )


def unit_length(vectors: NDArray[np.floating]) -> Array:
    """Scale each row to length one; zero rows stay zero. Returns float32."""
    norm = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norm, _TINY), dtype=np.float32)


def fit_feature_map(
    features: NDArray[np.floating],
    *,
    components: int | None = 256,
    whiten: float = 0.0,
    shrink: float = 0.1,
    power: float = 1.0,
) -> FeatureMap:
    """Learn the normalization from features without labels.

    Args:
        features: (n, d) of the images that may be looked at: the pool, and the labeled images that train.
        components: Principal components kept, at most ``min(d, n - 1)``. None keeps the features unrotated
            (centered only). 256 loses nothing measurable on 1,280-dimensional backbones and makes every later
            step five times cheaper.
        whiten: 0 keeps each direction's spread, 1 makes all spreads equal, values between are partial. Heads
            do best with 0; neighbor graphs with a partial whitening, because it takes weight from the few
            directions that make hubs.
        shrink: Share of the mean variance added to every variance before whitening, so that noise is not
            blown up.
        power: Signed power applied first (0.5 evens out the heavy tails of post-ReLU features).

    Raises:
        DataError: There is no row, or a value is not finite.
    """
    if features.ndim != 2 or not len(features):
        raise DataError(f"A feature map needs an (n, d) array with n >= 1 but got shape {features.shape}.")
    if not np.isfinite(features).all():
        raise DataError(
            "The features hold values that are not finite: check the backbone's weights and the images."
        )
    # Evenly spaced rows: a covariance from 20,000 images is as good as from all, at bounded cost.
    step = -(-len(features) // _FIT_ROWS)
    sample = _signed_power(features[::step], power).astype(np.float64)
    mean = sample.mean(axis=0)
    matrix = None if components is None else _components(sample - mean, components, whiten, shrink)
    return FeatureMap(mean.astype(np.float32), matrix, power)


def _components(centered: NDArray[np.float64], components: int, whiten: float, shrink: float) -> Array:
    """Return the (d, k) matrix of leading directions, scaled by their partly whitened spread."""
    n, d = centered.shape
    if n < d:  # the Gram matrix is the smaller one; its eigenvectors give the directions
        values, left = np.linalg.eigh(centered @ centered.T / n)
        directions = centered.T @ left
        directions /= np.maximum(np.linalg.norm(directions, axis=0), _TINY)
    else:
        values, directions = np.linalg.eigh(centered.T @ centered / n)
    values, directions = np.maximum(values[::-1], 0.0), directions[:, ::-1]
    rank = int((values > values[0] * 1e-7).sum())
    keep = max(1, min(components, rank, max(n - 1, 1)))
    values, directions = values[:keep], directions[:, :keep]
    # The sign of an eigenvector is arbitrary: fix it, so that the same features give the same map everywhere.
    signs = np.sign(directions[np.abs(directions).argmax(axis=0), np.arange(keep)])
    directions = directions * np.where(signs == 0, 1.0, signs)
    scale = np.ones(keep)
    if whiten and values[0] > 0:
        scale = (values + shrink * values.mean()) ** (-0.5 * whiten)
        scale /= scale[0]
    return np.ascontiguousarray(directions * scale, dtype=np.float32)


def _signed_power(features: NDArray[np.floating], power: float) -> NDArray[np.floating]:
    """Return ``sign(x) |x|^power``."""
    if power == 1.0:
        return features
    return np.asarray(np.sign(features) * np.abs(features) ** power)
