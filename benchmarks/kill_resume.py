"""Killed anywhere, resumed: the same result. The same seed twice: the same result.

    python benchmarks/kill_resume.py --data DIR [--runs 10] [--seed 0] [--network small_resnet_16]

Runs ``fallow train`` on digits (4 labels a class, 150 unlabeled images, pinned steps) twice without a disturbance, and compares
the two. Then runs it ten times more (rows that are in the results already are skipped), each killed with SIGKILL at a random moment of every phase: while it reads, while it
embeds, in each of the seven rungs, and after them; after each kill it goes on with ``--resume`` (or the same command, where the
kill came before there was a run to go on with). Compared with the undisturbed run: ``result.json`` without times (figures and
choice), every decision, the out-of-fold posteriors and the refitted tensors of all rungs, and the model's tensors and ONNX file, to the bit.

Moments are drawn from the time that a phase took undisturbed; where a machine was so fast that a phase was over, the kill
counts for the phase that it struck. Checkpoints are written as often as that is possible, so that fits go on in their middle.
The budget is generous, so that no cut depends on the clock; every run has a cache of its own, so that vectors are lost to
the kill as well.

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
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from protocol import RESULTS, draw, load
from safetensors.numpy import load_file

RUNGS = ("probe", "propagate", "finetune", "joint", "pretrain", "noisy_student", "ensemble")
PHASES = ("read", "embed", *RUNGS, "report")
PINNED = {
    "choose.folds": 2,
    "choose.repeats": 1,
    "optimization.steps": 24,
    "optimization.batch_size": 16,
    "optimization.unlabeled_ratio": 2,
    "noisy_student.rounds": 2,
}
PROGRAM = (
    "import fallow.engine.loop as loop; loop._CHECKPOINT_SECONDS = 0.0; from fallow.cli import main; main()"
)


class Job:
    """One ``fallow train`` and where it writes."""

    def __init__(self, data: Path, out: Path, network: str) -> None:
        self.data, self.out, self.network = data, out, network
        self.cache = out.with_name(f"{out.name}-cache")

    def start(self) -> subprocess.Popen[bytes]:
        """Start the run, or go on with it."""
        command = [sys.executable, "-c", PROGRAM, "train", str(self.data), "--out", str(self.out)]
        command += ["--json", "--offline", "--budget", "2h", "--backbone", "pixels"]
        command += ["--set", f"network.backbone={self.network}"]
        for key, value in PINNED.items():
            command += ["--set", f"{key}={value}"]
        if (self.out / "config.yaml").is_file():
            command.append("--resume")
        environment = {**os.environ, "FALLOW_CACHE": str(self.cache), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def phase(self) -> str:
        """Say how far the run has come."""
        if (self.out / "out_of_fold.parquet").is_file():
            return "report"
        stages = sorted(p.name for p in self.out.glob("stages/*"))
        if stages:
            return stages[-1].partition("-")[2]
        return "embed" if (self.out / "audit.json").is_file() else "read"


def undisturbed(job: Job) -> dict[str, float]:
    """Run to the end and return the seconds that each phase took."""
    process, seen, begun = job.start(), {}, time.monotonic()
    while process.poll() is None:
        seen.setdefault(job.phase(), time.monotonic())
        time.sleep(0.005)
    finish(process)
    seen["read"] = begun
    ends = [*list(seen.values())[1:], time.monotonic()]
    return {name: end - start for (name, start), end in zip(seen.items(), ends, strict=True)}


def kill_in(job: Job, phase: str, seconds: float) -> str:
    """Kill the run some seconds after it came to a phase; return the phase that was struck, empty if it ended before."""
    process, reached = job.start(), PHASES.index(phase)
    while PHASES.index(job.phase()) < reached and process.poll() is None:
        time.sleep(0.002)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        return job.phase()
    finish(process)
    return ""


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


def decisions(run: Path) -> dict[str, Any]:
    """Return all decisions by name: one that a run takes up again is told earlier than it was made."""
    return {made["name"]: made for made in read(run / "decisions.json")}


def same_tensors(one: Path, other: Path) -> bool:
    left, right = load_file(one), load_file(other)
    return left.keys() == right.keys() and all(np.array_equal(a, right[name]) for name, a in left.items())


def compare(one: Path, other: Path) -> dict[str, Any]:
    """Return what agrees between two finished runs."""
    left, right = read(one / "result.json"), read(other / "result.json")
    reads = left.pop("test_reads"), right.pop("test_reads")
    graphs = [hashlib.sha256((run / "model" / "model.onnx").read_bytes()).hexdigest() for run in (one, other)]
    tables = [pq.read_table(run / "out_of_fold.parquet").to_pylist() for run in (one, other)]
    return {
        "result": left == right,
        "decisions": decisions(one) == decisions(other),
        "posteriors": tables[0] == tables[1],
        "refits": all(
            same_tensors(one / name, other / name)
            for name in sorted(str(p.relative_to(one)) for p in one.glob("stages/*/final.safetensors"))
        ),
        "tensors": same_tensors(one / "model" / "model.safetensors", other / "model" / "model.safetensors"),
        "onnx": graphs[0] == graphs[1],
        "leftovers": len([p for p in other.rglob(".*") if p.name.endswith(".part")]),
        "more_reads": len(reads[1]) - len(reads[0]),
    }


def agree(found: dict[str, Any]) -> bool:
    same = all(found[k] for k in ("result", "decisions", "posteriors", "refits", "tensors", "onnx"))
    return same and not found["leftovers"]


def strike(
    job: Job, lengths: dict[str, float], whole: Path, rng: np.random.Generator, say: Callable[[str], None]
) -> dict[str, Any]:
    """Kill one run once in every phase, finish it, compare it with the undisturbed one."""
    struck = []
    for phase in PHASES:
        moment = float(rng.random() * lengths[phase])
        if where := kill_in(job, phase, moment):
            struck.append({"phase": where, "seconds": round(moment, 3)})
            fits = job.out.rglob("checkpoint.safetensors")
            struck[-1]["in_a_fit"] = any(True for _ in fits)
    finish(job.start())
    found = compare(whole, job.out)
    row = {"killed": struck, "same": agree(found), **found}
    say(f"killed in {', '.join(one['phase'] for one in struck)}: {'same' if row['same'] else found}")
    return row


def kept(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the runs that were made before: a benchmark that was stopped goes on."""
    found = json.loads(options.out.read_text(encoding="utf-8")) if options.out.is_file() else {}
    same = (found.get("seed"), found.get("network"), found.get("pinned")) == (
        options.seed,
        options.network,
        PINNED,
    )
    return list(found["rows"]) if same else []


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path(".data"))
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "kill_resume.json")
    parser.add_argument(
        "--network", default="small_resnet_16", help="or a timm name: its last blocks, on kept maps"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fallow-kill-") as folder:
        work = Path(folder)
        data = work / "data.csv"
        draw(load("digits", options.data.resolve()), 4, options.seed, "dev", pool=150).write_csv(data)
        whole = Job(data, work / "whole", options.network)
        lengths = undisturbed(whole)
        chosen = read(whole.out / "result.json")["chosen"]["rung"]
        told = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in lengths.items())
        print(f"undisturbed: {told}; chosen {chosen}", flush=True)
        twin = Job(data, work / "twin", options.network)
        undisturbed(twin)
        twice = compare(whole.out, twin.out)
        print(f"the same seed twice: {'same' if agree(twice) else twice}", flush=True)
        rows: list[dict[str, Any]] = kept(options)
        for number in range(len(rows), options.runs):
            job = Job(data, work / f"run-{number}", options.network)
            rng = np.random.default_rng([options.seed, number])
            rows.append(strike(job, lengths, whole.out, rng, lambda said: print(said, flush=True)))
            phases = Counter(one["phase"] for row in rows for one in row["killed"])
            summary = {
                "runs": len(rows),
                "same": sum(row["same"] for row in rows),
                "kills": sum(phases.values()),
                "kills_by_phase": dict(phases),
                "kills_inside_a_fit": sum(one["in_a_fit"] for row in rows for one in row["killed"]),
                "runs_with_more_test_reads": sum(row["more_reads"] > 0 for row in rows),
                "same_seed_twice": agree(twice),
                "seconds_undisturbed": {name: round(seconds, 1) for name, seconds in lengths.items()},
                "chosen": chosen,
                "seed": options.seed,
                "network": options.network,
                "pinned": PINNED,
                "rows": rows,
            }
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    good, kills = sum(row["same"] for row in rows), sum(len(row["killed"]) for row in rows)
    print(f"\n{good} of {len(rows)} killed runs ({kills} kills) ended as the undisturbed one did")
    if good < len(rows) or not agree(twice):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
