"""Killed anywhere, resumed: the same result.

    python benchmarks/kill_resume.py [--kills 20] [--seed 0] [--backbone pixels] [--out benchmarks/results/kill_resume.json]

Runs ``fallow train`` on digits (2 labels a class) once without a disturbance. Then, for each of N moments spread at
random over the time from its first file to its end (and one before), starts it again, kills it at that moment with
SIGKILL, and goes on with ``--resume`` (or the same command, where the kill came before there was a run to go on with).
Every third run is killed twice. Compared with the undisturbed run: ``result.json`` without times, every decision, the
out-of-fold posteriors, and the model's tensors and ONNX file, to the bit. The budget is generous, so that no cut depends
on the clock; every run has a cache of its own, so that vectors are lost to the kill as well.

One difference is allowed and counted: a kill between the note "the test labels are being read" and the scores leaves one
read more in ``test_reads``, because they were read.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from safetensors.numpy import load_file

from fallow.verbs.demo import write_digits

RESULTS = Path(__file__).parent / "results" / "kill_resume.json"


asked = ["--offline", "--budget", "5m", "--set", "choose.repeats=3"]


def command(data: Path, out: Path, *more: str) -> list[str]:
    program = "from fallow.cli import main; main()"
    return [sys.executable, "-c", program, "train", str(data), "--out", str(out), "--json", *asked, *more]


def start(data: Path, out: Path, cache: Path, *more: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "FALLOW_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    quiet = subprocess.DEVNULL
    return subprocess.Popen(command(data, out, *more), env=environment, stdout=quiet, stderr=subprocess.PIPE)


def go_on(data: Path, out: Path, cache: Path) -> subprocess.Popen[bytes]:
    return start(data, out, cache, *(["--resume"] if (out / "config.yaml").is_file() else []))


def kill_after(process: subprocess.Popen[bytes], out: Path, seconds: float) -> bool:
    """Kill a process some seconds after it began to write to ``out``; False when it ended by itself before.

    Negative seconds strike before: while Python still reads its modules.
    """
    if seconds < 0:
        seconds = -seconds
    else:
        while not (out / "config.yaml").is_file() and process.poll() is None:
            time.sleep(0.005)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True
    return False


def finish(process: subprocess.Popen[bytes]) -> None:
    _, said = process.communicate()
    if process.returncode:
        raise SystemExit(f"a run that went on failed ({process.returncode}): {said.decode()}")


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if "second" not in k}
    return [without_times(v) for v in value] if isinstance(value, list) else value


def read(path: Path) -> Any:
    return without_times(json.loads(path.read_text(encoding="utf-8")))


def stage_of(out: Path) -> str:
    """Say how far a killed run had come."""
    if not (out / "config.yaml").is_file():
        return "start"
    if (out / "report.html").is_file():
        return "report written"
    for name, words in (("test.json", "report"), ("choice.json", "test"), ("out_of_fold.parquet", "choice")):
        if (out / name).is_file():
            return words
    stages = sorted((out / "stages").glob("*")) if (out / "stages").is_dir() else []
    if not stages:
        return "embed" if (out / "audit.json").is_file() else "read"
    last = stages[-1]
    folds = len(list(last.glob("fold-*")))
    return f"{last.name}: {'export' if (last / 'final.json').is_file() else f'{folds} folds'}"


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Return what agrees between two finished runs."""
    left, right = read(one / "result.json"), read(other / "result.json")
    reads = left.pop("test_reads"), right.pop("test_reads")
    tensors = [load_file(run / "model" / "model.safetensors") for run in (one, other)]
    same_tensors = tensors[0].keys() == tensors[1].keys() and all(
        np.array_equal(array, tensors[1][name]) for name, array in tensors[0].items()
    )
    graphs = [hashlib.sha256((run / "model" / "model.onnx").read_bytes()).hexdigest() for run in (one, other)]
    tables = [pq.read_table(run / "out_of_fold.parquet").to_pylist() for run in (one, other)]
    return {
        "result": left == right,
        "decisions": read(one / "decisions.json") == read(other / "decisions.json"),
        "posteriors": tables[0] == tables[1],
        "tensors": same_tensors,
        "onnx": graphs[0] == graphs[1],
        "leftovers": len([p for p in other.rglob(".*") if p.name.endswith(".part")]),
        "more_reads": len(reads[1]) - len(reads[0]),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Kill a run anywhere, resume it, compare.")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--backbone", default="pixels", help="pixels: seconds a run; auto: what a user gets")
    options = parser.parse_args()
    asked.extend(["--backbone", options.backbone])
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory(prefix="fallow-kill-") as folder:
        work = Path(folder)
        data = work / "digits"
        write_digits(data)
        process = start(data, work / "whole", work / "cache-whole")
        while not (work / "whole" / "config.yaml").is_file():
            time.sleep(0.005)
        begun = time.monotonic()
        finish(process)
        length = time.monotonic() - begun
        whole = work / "whole"
        ladder = (whole / "test.json").stat().st_mtime - (whole / "request.json").stat().st_mtime
        print(
            f"undisturbed: {length:.1f} s, {ladder:.1f} s of them before the report; chosen {read(work / 'whole' / 'result.json')['chosen']['rung']}"
        )
        rows = [
            strike(work, data, number, options.kills, (ladder, length), rng)
            for number in range(options.kills)
        ]
    good = [r for r in rows if r["same"]]
    print(f"\n{len(good)} of {len(rows)} killed and resumed runs ended as the undisturbed one did")
    summary = {
        "kills": sum(len(r["killed_at"]) for r in rows),
        "runs": len(rows),
        "same": len(good),
        "runs_with_more_test_reads": sum(r["more_reads"] > 0 for r in rows),
        "seconds_undisturbed": round(length, 1),
        "seed": options.seed,
        "backbone": options.backbone,
        "rows": rows,
    }
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
    if len(good) < len(rows):
        raise SystemExit(1)


def strike(
    work: Path, data: Path, number: int, kills: int, lengths: tuple[float, float], rng: np.random.Generator
) -> dict[str, Any]:
    """Kill one run once or twice, finish it, compare it with the undisturbed one."""
    out, cache = work / f"run-{number}", work / f"cache-{number}"
    # One moment in each of N equal parts, random and everywhere; the first before there is a directory. Every other
    # one strikes before the test scores are written: the report, which comes after, takes the longest.
    length = lengths[number % 2]
    moments = [float((number - 1 + rng.random()) / (kills - 1) * length)] if number else [-0.5]
    if number % 3 == 2:
        moments.append(float(rng.random() * length))
    struck, where = [], []
    for moment in moments:
        if kill_after(go_on(data, out, cache), out, moment):
            struck.append(round(moment, 2))
            where.append(stage_of(out))
    finish(go_on(data, out, cache))
    found = compare(work / "whole", out)
    same = (
        all(found[k] for k in ("result", "decisions", "posteriors", "tensors", "onnx"))
        and not found["leftovers"]
    )
    row = {"killed_at": struck, "during": where, "same": same, **found}
    print(
        f"{number + 1:3d}  {', '.join(f'{m:5.1f} s  {w}' for m, w in zip(struck, where, strict=True)):50s} "
        f"{'same' if same else f'DIFFERS {found}'}",
        flush=True,
    )
    return row


if __name__ == "__main__":
    main()
