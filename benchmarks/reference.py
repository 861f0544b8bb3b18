"""The plain baseline to beat: labels only and label spreading on given embeddings, nothing tuned, none of fallow's code.

Labels only is logistic regression (C = 30) on unit-length vectors. Spreading uses the 10 nearest neighbors by cosine with
weights cos^4, symmetrized and normalized, alpha 0.95, columns balanced (equal classes are assumed), then logistic
regression on everything, weighted by one minus normalized entropy. The linear systems are solved by sparse conjugate
gradients to 1e-6, so that 10,000 images fit.
"""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp
from scipy.sparse.linalg import cg
from sklearn.linear_model import LogisticRegression

NEIGHBORS, ALPHA, STRENGTH = 10, 0.95, 30.0


def _unit(x: np.ndarray) -> np.ndarray:
    return x / (np.linalg.norm(x, axis=1, keepdims=True) + 1e-12)


def _fit(x: np.ndarray, y: np.ndarray, weight: np.ndarray | None = None) -> LogisticRegression:
    return LogisticRegression(C=STRENGTH, max_iter=300).fit(x, y, weight)


def _nearest(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns, values = [], []
    for start in range(0, len(x), 2000):
        similarity = x[start : start + 2000] @ x.T
        rows = np.arange(len(similarity))
        similarity[rows, start + rows] = -1
        near = np.argpartition(-similarity, NEIGHBORS, 1)[:, :NEIGHBORS]
        columns.append(near)
        values.append(similarity[rows[:, None], near])
    return np.concatenate(columns), np.concatenate(values)


def reference(
    labeled: np.ndarray, y: np.ndarray, unlabeled: np.ndarray, test: np.ndarray, truth: np.ndarray
) -> dict[str, float]:
    """Return the test accuracy of labels only and of spreading.

    Args:
        labeled: (n, d) embeddings.
        y: (n,) classes 0..c-1, each at least once.
        unlabeled: (m, d).
        test: (t, d).
        truth: (t,) classes.
    """
    labeled, unlabeled, test = _unit(labeled), _unit(unlabeled), _unit(test)
    x, n, classes = np.concatenate([labeled, unlabeled]), len(labeled), int(y.max()) + 1
    columns, values = _nearest(x)
    rows = np.repeat(np.arange(len(x)), NEIGHBORS)
    w = sp.csr_matrix((np.maximum(values, 0).ravel() ** 4, (rows, columns.ravel())), shape=(len(x), len(x)))
    w = w.maximum(w.T)
    scale = sp.diags((np.asarray(w.sum(1)).ravel() + 1e-12) ** -0.5)
    system = sp.eye(len(x)) - ALPHA * (scale @ w @ scale)
    start = np.zeros((len(x), classes))
    start[np.arange(n), y] = 1
    z = np.stack([cg(system, start[:, c], rtol=1e-6)[0] for c in range(classes)], 1)
    z = np.maximum(z, 0)
    z /= z.sum(0) + 1e-9
    p = z / (z.sum(1, keepdims=True) + 1e-12)
    guess, weight = p.argmax(1), 1 + (p * np.log(p + 1e-12)).sum(1) / np.log(classes)
    guess[:n], weight[:n] = y, 1
    spread = _fit(x, guess, np.clip(weight, 0, 1))
    return {
        "labels_only": float((_fit(labeled, y).predict(test) == truth).mean()),
        "spread": float((spread.predict(test) == truth).mean()),
    }
