from __future__ import annotations

from pathlib import Path

import pytest

from otr_core.errors import ModelError
from otr_node.lanes import load_model
from otr_node.quiet import quiet_transformers


def _bars(capfd: pytest.CaptureFixture[str]) -> list[bool]:
    """Whether the library's own bar, and one that does not ask its switch, write anything now."""
    from tqdm.auto import tqdm
    from transformers.utils import logging

    capfd.readouterr()
    found = []
    for bar in (logging.tqdm, tqdm):
        list(bar([1, 2], desc="Loading weights"))
        found.append("Loading weights" in capfd.readouterr().err)
    return found


def test_no_bar_is_drawn_inside_and_all_are_afterwards(capfd: pytest.CaptureFixture[str]) -> None:
    from transformers.utils import logging

    level = logging.get_verbosity()
    assert _bars(capfd) == [True, True]
    with quiet_transformers():
        assert _bars(capfd) == [False, False]
        assert logging.get_verbosity() == logging.ERROR
    with pytest.raises(ModelError, match="inside"), quiet_transformers():
        raise ModelError("what fails inside leaves nothing changed")
    assert _bars(capfd) == [True, True]
    assert logging.get_verbosity() == level


def test_a_class_of_bars_without_a_constructor_of_its_own_gets_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook the class of the bars inherits its constructor."""
    from tqdm import auto

    monkeypatch.setattr(auto, "tqdm", type("tqdm", (auto.tqdm,), {}))
    with quiet_transformers():
        assert "__init__" in vars(auto.tqdm)
    assert "__init__" not in vars(auto.tqdm)


def test_a_model_that_transformers_loads_draws_no_bar(tiny: Path, capfd: pytest.CaptureFixture[str]) -> None:
    capfd.readouterr()
    load_model(tiny, lane="native-float32")
    assert capfd.readouterr().err == ""
