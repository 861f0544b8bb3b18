"""What a rung leaves says the same in memory, from the disk, and as one ONNX file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from safetensors.numpy import load_file, save_file

from fallow.study import RUNGS
from tests.study.digits import context, fit, write_digits


@pytest.mark.parametrize("votes", ["pixels", "edges+pixels"])
@pytest.mark.parametrize("rung", list(RUNGS))
def test_predict_restored_state_and_exported_graph_agree(rung: str, votes: str, tmp_path: Path) -> None:
    ctx = context(write_digits(tmp_path / "data", labels=4), tmp_path / "cache", votes)
    candidate = fit(ctx, None, rung).calibrated(1.7)
    images = ctx.data.images(ctx.data.test_ids)
    said = candidate.predict(images).probs.numpy()
    assert said.shape == (len(images), len(ctx.data.classes))

    tensors, meta = candidate.state()
    save_file({name: np.ascontiguousarray(array) for name, array in tensors.items()}, tmp_path / "state")
    restored = RUNGS[rung].restore(ctx, load_file(tmp_path / "state"), meta)
    np.testing.assert_array_equal(restored.predict(images).probs.numpy(), said)
    if candidate.mix is None:
        assert restored.mix is None
    else:
        np.testing.assert_array_equal(restored.mix, candidate.mix)

    candidate.export_graph(tmp_path / "model.onnx")
    session = ort.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    shipped = [session.run(["probs"], {"image": images.read(name)})[0] for name in images.ids]
    np.testing.assert_allclose(np.stack(shipped), said, atol=2e-4)
