"""The rungs, in the order in which they are tried."""

from collections.abc import Iterator, Mapping

from fallow.study.context import RungContext
from fallow.study.rung import Candidate, Fold, Rung
from fallow.study.rungs.frozen import FrozenCandidate
from fallow.study.rungs.probe import ProbeRung
from fallow.study.rungs.propagate import PropagateRung
from fallow.types import RungName

RUNGS: dict[RungName, Rung] = {rung.info.name: rung for rung in (ProbeRung(), PropagateRung())}


class Below(Mapping[RungName, Candidate]):
    """The candidates of the rungs below, of one fold, fitted again when a rung asks for them.

    Cheap rungs are fitted in less time than their candidates take to be kept for every fold; they are deterministic,
    so that a refit is the same candidate.
    """

    def __init__(self, ctx: RungContext, fold: Fold, names: tuple[RungName, ...]) -> None:
        self._ctx, self._fold, self._names = ctx, fold, names
        self._made: dict[RungName, Candidate] = {}

    def __getitem__(self, name: RungName) -> Candidate:
        if name not in self._names:
            raise KeyError(name)
        if name not in self._made:
            lower = self._names[: self._names.index(name)]
            self._made[name] = RUNGS[name].fit(self._ctx, self._fold, Below(self._ctx, self._fold, lower))
        return self._made[name]

    def __iter__(self) -> Iterator[RungName]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


__all__ = [
    "RUNGS",
    "Below",
    "FrozenCandidate",
    "ProbeRung",
    "PropagateRung",
]
