"""Multinomial logistic regression on frozen features: hard or soft targets, weighted rows, warm starts."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar
from threadpoolctl import ThreadpoolController

from fallow.errors import DataError

Array = NDArray[np.float32]

DEFAULT_STRENGTH = 30.0
"""Inverse L2 penalty of a labels-only head on unit vectors; good at few labels on every data set tried."""


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Class scores that are linear in the features.

    Attributes:
        weight: float32 (k, c).
        bias: float32 (c,).
        temperature: Logits are divided by it; above 1 softens overconfident scores.
    """

    weight: Array
    bias: Array
    temperature: float = 1.0

    @property
    def n_classes(self) -> int:
        """Number of classes."""
        return int(self.bias.shape[0])

    def logits(self, features: NDArray[np.floating]) -> Array:
        """Return temperature-scaled logits (n, c), float32."""
        return np.asarray((features @ self.weight + self.bias) / self.temperature, dtype=np.float32)

    def probs(self, features: NDArray[np.floating]) -> Array:
        """Return class probabilities (n, c), float32; rows sum to 1."""
        return softmax(self.logits(features))

    def state(self) -> dict[str, NDArray[np.float32]]:
        """Return the arrays that define the head, for safetensors."""
        temperature = np.asarray([self.temperature], dtype=np.float32)
        return {"weight": self.weight, "bias": self.bias, "temperature": temperature}

    @classmethod
    def from_state(cls, arrays: Mapping[str, NDArray[np.floating]]) -> LinearHead:
        """Build the head that ``state`` described."""
        return cls(
            weight=np.ascontiguousarray(arrays["weight"], dtype=np.float32),
            bias=np.asarray(arrays["bias"], dtype=np.float32),
            temperature=float(np.asarray(arrays["temperature"]).reshape(-1)[0]),
        )


def softmax(logits: NDArray[np.floating]) -> Array:
    """Return row-wise softmax, float32, safe for large logits."""
    shifted = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(shifted / shifted.sum(axis=1, keepdims=True), dtype=np.float32)


def one_hot(labels: NDArray[np.integer], n_classes: int) -> Array:
    """Return (n, n_classes) float32 with a one at each label."""
    out = np.zeros((len(labels), n_classes), dtype=np.float32)
    out[np.arange(len(labels)), labels] = 1.0
    return out


def fit_logistic(
    features: NDArray[np.floating],
    targets: NDArray[np.integer] | NDArray[np.floating],
    *,
    n_classes: int | None = None,
    sample_weight: NDArray[np.floating] | None = None,
    strength: float = DEFAULT_STRENGTH,
    start: LinearHead | None = None,
    max_steps: int = 100,
) -> LinearHead:
    """Minimize ``sum_i w_i CE(target_i, head(x_i)) + |weight|^2 / (2 strength)`` by L-BFGS; the bias is free.

    Args:
        features: (n, k), usually unit vectors.
        targets: Integer labels (n,), or soft targets (n, c) whose rows sum to 1.
        n_classes: Needed with integer labels when the last class may be missing.
        sample_weight: (n,) nonnegative; default all one. Rows of weight zero do not count.
        strength: Inverse L2 penalty (scikit-learn's ``C``).
        start: Head to start from; default zero.
        max_steps: L-BFGS iterations at most.

    Returns:
        A head with temperature 1.

    Raises:
        DataError: No row has a positive weight, or shapes disagree.
    """
    soft = _soft_targets(targets, n_classes)
    if len(soft) != len(features):
        raise DataError(
            f"{len(features)} feature rows but {len(soft)} targets were given: they must be as many."
        )
    weight = np.ones(len(soft), np.float32) if sample_weight is None else sample_weight.astype(np.float32)
    rows = weight > 0
    if not rows.any():
        raise DataError("A linear head needs at least one row with a positive weight.")
    x, soft, weight = np.asarray(features[rows], dtype=np.float32), soft[rows], weight[rows]
    # The optimum lies in the span of the rows: with few rows, solve there (exact, and much smaller).
    basis = np.linalg.qr(x.T)[0].astype(np.float32) if len(x) < x.shape[1] else None
    if basis is not None:
        x = x @ basis
    w0, b0 = _start(start, x.shape[1], soft.shape[1], basis)
    w, b = _minimize(np.ascontiguousarray(x), soft, weight, strength, w0, b0, max_steps)
    return LinearHead(w if basis is None else np.ascontiguousarray(basis @ w), b)


def fit_temperature(
    logits: NDArray[np.floating], labels: NDArray[np.integer], *, prior_rows: float = 20.0
) -> float:
    """Return the temperature that minimizes held-out cross-entropy, pulled to 1 by scarce evidence.

    Args:
        logits: (n, c) of rows the head was not fitted on.
        labels: (n,) their true classes.
        prior_rows: Strength of the pull, in rows: the penalty is ``prior_rows / 2 * log(T)^2``.
    """
    if not len(labels):
        return 1.0

    def loss(log_t: float) -> float:
        scaled = logits.astype(np.float64) / np.exp(log_t)
        top = scaled.max(axis=1)
        norm = top + np.log(np.exp(scaled - top[:, None]).sum(axis=1))
        return float((norm - scaled[np.arange(len(labels)), labels]).sum() + 0.5 * prior_rows * log_t**2)

    return float(np.exp(minimize_scalar(loss, bounds=(-3.0, 3.0), method="bounded").x))


def _soft_targets(
    targets: NDArray[np.integer] | NDArray[np.floating], n_classes: int | None
) -> NDArray[np.float32]:
    if targets.ndim == 2:
        return np.asarray(targets, dtype=np.float32)
    labels = targets.astype(np.int64)
    return one_hot(labels, int(labels.max()) + 1 if n_classes is None else n_classes)


def _start(start: LinearHead | None, k: int, c: int, basis: Array | None) -> tuple[Array, Array]:
    """Return the starting weight (k, c) and bias (c,), in the coordinates of the reduced problem."""
    if start is None:
        return np.zeros((k, c), np.float32), np.zeros(c, np.float32)
    return (start.weight if basis is None else basis.T @ start.weight), start.bias


_MANY_PRODUCTS = 100_000_000
"""Multiplications a step from which several threads are worth waking."""


def _few_threads(products: int) -> AbstractContextManager[object]:
    """Keep BLAS to one thread for small problems.

    L-BFGS alternates between short products in NumPy's BLAS and shorter ones in SciPy's own: each wakes its threads for
    microseconds of work, and those of the other spin meanwhile. On two cores the demo's fits take 40 s so, and 6 without.
    """
    return nullcontext() if products > _MANY_PRODUCTS else _blas().limit(limits=1, user_api="blas")


@lru_cache(maxsize=1)
def _blas() -> ThreadpoolController:
    return ThreadpoolController()


def _minimize(
    x: Array, soft: Array, weight: Array, strength: float, w0: Array, b0: Array, max_steps: int
) -> tuple[Array, Array]:
    """Run L-BFGS on the flattened (weight, bias); float32 products, float64 bookkeeping."""
    k, c = w0.shape
    total = float(weight.sum())
    pulled = weight[:, None] * soft
    mass = weight * soft.sum(axis=1)

    def value_and_gradient(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        point = flat.astype(np.float32)
        w, b = point[: k * c].reshape(k, c), point[k * c :]
        logits = x @ w
        logits += b
        logits -= logits.max(axis=1, keepdims=True)
        fit = float(np.einsum("ij,ij->", pulled, logits, dtype=np.float64))
        np.exp(logits, out=logits)
        norm = logits.sum(axis=1)
        loss = float((mass * np.log(norm)).sum(dtype=np.float64)) - fit
        loss += 0.5 / strength * float((w * w).sum(dtype=np.float64))
        logits *= (mass / norm)[:, None]
        logits -= pulled
        gradient = np.concatenate([(x.T @ logits + w / strength).ravel(), logits.sum(axis=0)])
        return loss / total, gradient.astype(np.float64) / total

    with _few_threads(x.size * c):
        found = minimize(
            value_and_gradient,
            np.concatenate([w0.ravel(), b0]).astype(np.float64),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": max_steps, "ftol": 1e-7, "gtol": 1e-5},
        ).x.astype(np.float32)
    return np.ascontiguousarray(found[: k * c].reshape(k, c)), found[k * c :]
