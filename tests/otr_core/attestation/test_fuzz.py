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


def test_seeds_are_added_up_and_told_apart() -> None:
    real = attestation_fuzz.fuzz_corpus()
    rows = [attestation_fuzz.fuzz(real, 40, seed, ["report"])["report"] for seed in (1, 2, 3)]
    whole = attestation_fuzz.joined(rows)
    assert sum(whole[name] for name in ("unreadable", "rejected", "accepted")) == 120
    assert [sum(one) for one in whole["by_seed"]] == [40, 40, 40]
    assert len({tuple(one) for one in whole["by_seed"]}) > 1  # another stream under each
    assert whole["slowest_s"] == max(row["slowest_s"] for row in rows)
