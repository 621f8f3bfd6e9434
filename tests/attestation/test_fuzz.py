"""A short run of the fuzzer; ``make fuzz`` runs the long one."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="module")
def fuzzer() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fuzz_parsers", Path(__file__).with_name("fuzz_parsers.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_mutated_files_end_in_a_named_error_or_a_refuted_claim(fuzzer: ModuleType) -> None:
    results = fuzzer.fuzz(fuzzer.evidence(Path(__file__)), inputs=300, seed=7)
    for name, counts in results.items():
        assert counts["unreadable"] + counts["rejected"] + counts["accepted"] == 300
        if name in ("report", "chain", "rim", "ocsp", "vendor"):
            assert counts["accepted"] == 0, name


def test_the_fuzzer_can_fail(fuzzer: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**files: object) -> None:
        raise KeyError("a parser that forgets a field")

    monkeypatch.setattr(fuzzer, "load_bundle", broken)
    with pytest.raises(AssertionError, match="KeyError"):
        fuzzer.fuzz(fuzzer.evidence(Path(__file__)), inputs=1, seed=7)
