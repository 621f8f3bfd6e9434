"""A short run of the fuzzer; ``make fuzz`` runs the long one."""

from __future__ import annotations

import pytest

from otr_paper.producers import attestation_fuzz


def test_mutated_files_end_in_a_named_error_or_a_refuted_claim() -> None:
    results = attestation_fuzz.fuzz(attestation_fuzz.fuzz_corpus(), inputs=300, seed=7)
    for name, counts in results.items():
        assert counts["unreadable"] + counts["rejected"] + counts["accepted"] == 300
        if name in ("report", "chain", "rim", "ocsp", "vendor"):
            assert counts["accepted"] == 0, name


def test_the_fuzzer_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(**files: object) -> None:
        raise KeyError("a parser that forgets a field")

    monkeypatch.setattr(attestation_fuzz, "load_bundle", broken)
    with pytest.raises(AssertionError, match="KeyError"):
        attestation_fuzz.fuzz(attestation_fuzz.fuzz_corpus(), inputs=1, seed=7)
