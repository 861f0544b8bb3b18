"""The example of docs/add-a-method.md is a method, passes its own test, and keeps the contract."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from fallow.tasks import Task
from tests.contracts.test_joint_method import try_on
from tests.contracts.toys import TOYS

PAGE = Path(__file__).parents[3] / "docs" / "add-a-method.md"
NAME = "fallow.methods.joint.pseudo_label"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, dict[str, object]]:
    """The module of the page's first block, and what its second block defines."""
    method, test = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    module = ModuleType(NAME)
    monkeypatch.setitem(sys.modules, NAME, module)
    exec(compile(method, f"{PAGE.name}, method", "exec"), module.__dict__)
    tests: dict[str, object] = {}
    exec(compile(test, f"{PAGE.name}, test", "exec"), tests)
    return module, tests


def test_the_example_passes_its_own_test(example: tuple[ModuleType, dict[str, object]]) -> None:
    found = [run for name, run in example[1].items() if name.startswith("test_")]
    assert found
    for run in found:
        run()  # type: ignore[operator]


@pytest.mark.parametrize("toy", TOYS, ids=lambda t: t.__name__)
def test_the_example_keeps_the_contract(
    example: tuple[ModuleType, dict[str, object]], toy: type[Task]
) -> None:
    try_on(toy, example[0].PseudoLabel)


def test_what_the_page_names_is_there() -> None:
    root, text = PAGE.parents[1], PAGE.read_text()
    for path in re.findall(r"`((?:methods|config)/[\w/]+\.py)`", text):
        assert (root / "src" / "fallow" / path).is_file(), path
    assert "_KINDS" in (root / "src/fallow/methods/joint/__init__.py").read_text()
    assert "METHODS" in (root / "src/fallow/config/names.py").read_text()
    assert "METHODS" in (root / "tests/methods/joint/test_processes.py").read_text()
