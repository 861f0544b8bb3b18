"""Where training starts: a head that knows the labels already, on features that are good already."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fallow.methods import certainty
from fallow.models import DEFAULT_STRENGTH, Backbone, Space, fit_logistic
from fallow.study.candidates.frozen import FrozenCandidate
from fallow.study.context import RungContext
from fallow.study.inputs import options_of
from fallow.study.rung import Fold
from fallow.study.trained.network import network_plan


def fitted_head(
    ctx: RungContext,
    fold: Fold | None,
    head: nn.Linear,
    start: Backbone,
    guesses: NDArray[np.float32] | None = None,
) -> None:
    """Set a head to the logistic regression on this fold's labels, on the features of the network that training starts from.

    A random head sends large gradients into good features and spoils them (Kumar et al. 2022, arXiv 2202.10054): probe
    first, then fine-tune. Features are centered and scaled to unit mean square for the fit, which is then undone.

    Args:
        ctx: Data and vectors.
        fold: What is held out.
        head: It is changed.
        start: The network that training starts from.
        guesses: What a rung below says of the pool, (pool, classes): the head learns its likeliest classes too, each as far
            as it is sure of them, as the head of label propagation does.
    """
    plan, train = network_plan(ctx), ctx.train_positions(fold)
    space = Space(start.name, start.weights_id, plan.size, "none")
    x = ctx.bank.pooled(space, ctx.labeled, "labeled", start)[train]
    y, weights, strength = ctx.data.y[train], np.ones(len(train), np.float32), DEFAULT_STRENGTH
    if guesses is not None:
        options = options_of(ctx)
        x = np.concatenate([x, ctx.bank.pooled(space, ctx.pool, "pool", start)])
        y = np.concatenate([y, guesses.argmax(1)])
        weights = np.concatenate([weights, certainty(guesses) ** np.float32(options.confidence)])
        strength = options.strength
    mean, scale = x.mean(0), float(np.linalg.norm(x - x.mean(0), axis=1).mean()) + 1e-6
    found = fit_logistic(
        np.asarray((x - mean) / scale, np.float32),
        y,
        n_classes=len(ctx.data.classes),
        sample_weight=weights,
        strength=strength,
    )
    weight = np.asarray(found.weight) / scale
    with torch.no_grad():
        head.weight.copy_(torch.from_numpy(weight.T))
        head.bias.copy_(torch.from_numpy(np.asarray(found.bias) - mean @ weight))


def linear_of(candidate: FrozenCandidate) -> nn.Linear:
    """Return the head of a candidate with one branch as a layer that can learn, its temperature undone.

    The temperature calibrates what the candidate says and is part of where its pupil starts: a network that is too sure of
    itself would accept every guess of its own.
    """
    (branch,) = candidate.classifier.branches
    temperature = candidate.classifier.temperature * branch.head.temperature
    weight = torch.from_numpy(np.asarray(branch.head.weight, np.float32) / temperature)
    layer = nn.Linear(*weight.shape)
    with torch.no_grad():
        layer.weight.copy_(weight.T)
        layer.bias.copy_(torch.from_numpy(np.asarray(branch.head.bias, np.float32) / temperature))
    return layer
