"""Does the exported file say what the model in memory says? From the original image files, for every kind of model.

    python benchmarks/onnx_parity.py --data DIR [--images 400]

Three ways to the class of an image: the lines of the model card (onnxruntime and Pillow, nothing of fallow), through
``Result.predict``, and the candidate in memory on cached vectors. Counted is how often all three agree.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps
from protocol import draw, load

RESULTS = Path(__file__).parent / "results" / "onnx_parity.json"
KINDS = {
    "digits: backbone and pixels": ("digits", 5, {}),
    "digits: pixels": ("digits", 5, {"embed.backbone": "pixels"}),
    "digits: labels only": ("digits", 5, {"rungs": "probe"}),
    "ucmerced: turns": ("ucmerced", 5, {"embed.views": "turns"}),
    "ucmerced: no views": ("ucmerced", 5, {"embed.views": "none"}),
    "ucmerced: labels only": ("ucmerced", 5, {"rungs": "probe"}),
    "clothing: flip": ("clothing", 5, {"embed.views": "flip"}),
    "clothing: 224 px": ("clothing", 5, {"embed.views": "none", "embed.size": 224}),
}


def card(model: Path, files: list[Path]) -> list[str]:
    """Follow the model card's snippet."""
    session = ort.InferenceSession(model / "model.onnx")
    classes = json.loads((model / "labels.json").read_text(encoding="utf-8"))
    named = []
    for file in files:
        image = np.asarray(ImageOps.exif_transpose(Image.open(file)).convert("RGB"))
        named.append(classes[session.run(["probs"], {"image": image})[0].argmax()])
    return named


def in_memory(run: Path, table: Path, files: list[Path]) -> list[str]:
    """Return what the candidate says through the embedder, as it did while it was chosen."""
    from fallow.data import ImageReader, audit, cache_dir, open_source
    from fallow.export import load_bundle
    from fallow.models import Embedder

    bundle = load_bundle(run / "model")
    classifier, backbones = bundle.classifier(), bundle.backbones()
    found = audit(open_source(table))
    reader = ImageReader(found.source, found.table)
    ids = [str(file) for file in files]
    hashes = found.table.column("pixel_hash", ids)
    features = {}
    for space in classifier.spaces:
        embedder = Embedder(backbones[space.backbone_name], space.size, cache=cache_dir())
        features[space.key] = embedder.embed(reader.read, ids, hashes, space.views)
    return [bundle.classes[i] for i in classifier.predict_probs(features).argmax(1)]


def main() -> None:
    import fallow

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--images", type=int, default=400)
    options = parser.parse_args()
    rows = {}
    for name, (data, per_class, pinned) in KINDS.items():
        drawn = draw(load(data, options.data.resolve()), per_class, 0, "dev")
        with tempfile.TemporaryDirectory() as work:
            table = Path(work, "data.csv")
            drawn.write_csv(table)
            result = fallow.train(
                table, out=Path(work, "run"), budget="10m", offline=True, set=pinned, show="nothing"
            )
            files = [f for f, _ in drawn.test][: options.images]
            ways = {
                "card": card(result.path / "model", files),
                "predict": [p.label for p in result.predict([str(f) for f in files])],
                "memory": in_memory(result.path, table, files),
            }
        agree = [a == b == c for a, b, c in zip(*ways.values(), strict=True)]
        rows[name] = {
            "chosen": result.study.chosen.rung,
            "images": len(files),
            "agree": float(np.mean(agree)),
        }
        print(
            f"{name:<28} {rows[name]['chosen']:<10} {len(files)} images: {100 * np.mean(agree):.2f} % agree",
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
