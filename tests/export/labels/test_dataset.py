"""Labels as a torch data set."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from fallow.errors import ConfigError
from fallow.export.labels.dataset import LabelDataset
from tests.export.labels.pool import labeled_pool


def test_given_labels_weigh_one_and_the_others_what_they_are_worth(tmp_path: Path) -> None:
    found = LabelDataset(labeled_pool(tmp_path), unlabeled_weight=0.5)
    assert len(found) == 5
    assert found.weights.tolist() == pytest.approx([1, 1, 0.495, 0.49, 0.45])
    image, label, weight = found[4]
    assert (found.classes[int(label)], float(weight)) == ("cat & co", pytest.approx(0.45))
    assert image.shape == (3, 12, 12)
    assert 0 <= float(image.min()) <= float(image.max()) <= 1


def test_soft_targets_are_probabilities_and_certain_where_a_label_was_given(tmp_path: Path) -> None:
    found = LabelDataset(labeled_pool(tmp_path), targets="soft", take="all")
    assert len(found) == 7
    assert found.targets.shape == (7, 2)
    torch.testing.assert_close(found.targets.sum(1), torch.ones(7))
    assert found.targets[:2].tolist() == [[1, 0], [0, 1]]
    assert found.targets[5].tolist() == pytest.approx([0.6, 0.4])


def test_a_data_set_goes_through_a_loader_with_the_caller_s_own_transform(tmp_path: Path) -> None:
    def transform(pixels: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(pixels[:4, :4].copy())

    batches = list(DataLoader(LabelDataset(labeled_pool(tmp_path), transform), batch_size=2))
    assert [tuple(image.shape) for image, _, _ in batches] == [(2, 4, 4, 3), (2, 4, 4, 3), (1, 4, 4, 3)]
    assert torch.cat([label for _, label, _ in batches]).tolist() == [0, 1, 0, 1, 0]


@pytest.mark.parametrize(
    "wrong",
    [{"targets": "firm"}, {"take": "some"}, {"unlabeled_weight": -1}, {"unlabeled_weight": float("nan")}],
)
def test_what_is_no_choice_is_refused_by_name(tmp_path: Path, wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        LabelDataset(labeled_pool(tmp_path), **wrong)
