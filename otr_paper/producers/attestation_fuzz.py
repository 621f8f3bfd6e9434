"""Fuzzing of the evidence parsers: ``python -m otr_paper.producers.attestation_fuzz [inputs per parser] [seed]``.

Each input is a mutation of a real file. It must end in ``EvidenceError`` or in an appraisal; any other exception, an
input that takes over a second, or an accepted forgery is a finding and is printed with its bytes in hex.
Without a finding, the counts are stored in data/results/attestation_fuzz.json.
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.policy import SHIPPED
from otr_core.errors import EvidenceError

LIMIT_S = 1.0
GROWTH_MIB = 32.0  # libraries loaded on first use included
NOW = datetime(2025, 1, 15, tzinfo=UTC)
_CHUNKS = (b"", b"\0", b"\xff" * 4, b"\x00\x00\x00\x80", b"<!DOCTYPE a>", b"&lt;", b"{}", b"[", b'"', b"-----", b"\n")


def mutate(data: bytes, rng: random.Random) -> bytes:
    """One to eight random edits: flipped bits, changed, cut, doubled, inserted or zeroed pieces."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at, size = rng.randrange(len(out) + 1), rng.choice((1, 1, 2, 4, 16, 200))
        kind = rng.randrange(7)
        if kind == 0 and at < len(out):
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            out[at : at + size] = rng.randbytes(size)
        elif kind == 2:
            del out[at : at + size]
        elif kind == 3:
            out[at:at] = out[at : at + size]
        elif kind == 4:
            out[at:at] = rng.choice(_CHUNKS)
        elif kind == 5:
            out[at : at + size] = bytes(min(size, len(out) - at))
        else:
            del out[at:]
    return bytes(out)


def slots(real: Mapping[str, bytes]) -> dict[str, tuple[bytes, Callable[[bytes], dict[str, Any]]]]:
    """Parsers by name: a real file to mutate, and how a mutated one is handed in."""
    gpu = {"gpu": [real["report"]], "gpu_certs": [real["chain"]]}
    found: dict[str, tuple[bytes, Callable[[bytes], dict[str, Any]]]] = {
        "report": (real["report"], lambda data: {**gpu, "gpu": [data]}),
        "chain": (real["chain"], lambda data: {**gpu, "gpu_certs": [data]}),
        "rim": (real["rim"], lambda data: {**gpu, "rims": [data]}),
    }
    if "vendor" in real:
        found["vendor"] = (real["vendor"], lambda data: {"gpu": [data]})
    if "ocsp" in real:
        found["ocsp"] = (real["ocsp"], lambda data: {**gpu, "ocsp": [data]})
    if "quote" in real:
        cpu = {"quote": real["quote"], "collateral": real["collateral"]}
        found["quote"] = (real["quote"], lambda data: {**cpu, "quote": data})
        found["collateral"] = (real["collateral"], lambda data: {**cpu, "collateral": data})
        found["log"] = (real["log"], lambda data: {**cpu, "event_log": data})
        found["ccel"] = (real["ccel"], lambda data: {**cpu, "event_log": data})
    policy = str(real["policy"].decode())
    found["policy"] = (policy.encode(), lambda data: {"policy": data})
    return found


def fuzz(real: Mapping[str, bytes], inputs: int, seed: int) -> dict[str, dict[str, float]]:
    """Run ``inputs`` mutations per parser.

    Returns:
        Per parser: numbers of unreadable, rejected and accepted, the slowest in seconds, growth of memory in MiB.

    Raises:
        AssertionError: a finding; the message has parser, number and the exception.
    """
    results = {}
    for name, (data, files) in slots(real).items():
        rng, cache = random.Random(f"{seed}/{name}"), VerifiedCache(max_entries=64)
        counts: dict[str, float] = {"unreadable": 0, "rejected": 0, "accepted": 0, "slowest_s": 0.0}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(inputs):
            mutated = mutate(data, rng)
            start = time.perf_counter()
            try:
                counts[_outcome(files(mutated), cache)] += 1
            except Exception as error:
                raise AssertionError(f"{name} input {number}: {error!r} from {mutated[:4096].hex()}") from error
            took = time.perf_counter() - start
            counts["slowest_s"] = max(counts["slowest_s"], took)
            assert took < LIMIT_S, f"{name} input {number} took {took:.2f} s: {mutated[:4096].hex()}"
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        counts["growth_mib"] = (after - before) / 1024
        assert counts["growth_mib"] < GROWTH_MIB, f"{name}: memory grew by {counts['growth_mib']:.0f} MiB"
        results[name] = counts
    return results


def _outcome(files: dict[str, Any], cache: VerifiedCache) -> str:
    try:
        if "policy" in files:
            Policy.from_bytes(files["policy"])
            return "accepted"  # a policy that still says something
        result = appraise(load_bundle(**files), Policy.default(), NOW, cache=cache)
    except EvidenceError:
        return "unreadable"
    except Exception as error:
        if type(error).__name__ == "PolicyError":
            return "unreadable"
        raise
    result.to_json()
    return result.verdict


def fuzz_corpus(root: Path) -> dict[str, bytes]:
    """Real files to mutate: from the wheel, and from the mirror where it is present."""
    from otr_core.errors import MissingDataError
    from otr_node import outside as data
    from otr_node.project import find_project

    project = find_project(root)
    samples = "verifier/samples"

    def wheel(name: str) -> bytes:
        return data.get(project, "nv-local-gpu-verifier", f"{samples}/{name}").read_bytes()

    real = {
        "report": bytes.fromhex(wheel("hopperAttestationReport.txt").decode()),
        "chain": wheel("hopperCertChain.txt"),
        "rim": wheel("Driver_RIM_test_no_gpu.swidtag"),
        "policy": (SHIPPED / "default.toml").read_bytes(),
    }
    outside = {
        "ocsp": ("go-nvattest-tools", "ocsp/test_gpu_certificate_l3_base64encoded_ocsp_response.dat"),
        "vendor": ("secretvm-verify", "gpu_attest.txt"),
        "quote": ("dcap-qvl", "tdx_quote"),
        "collateral": ("dcap-qvl", "tdx_quote_collateral.json"),
        "log": ("near-mpc", "tcb_info.json"),
        "ccel": ("go-tdx-guest", "ccel_data.dat"),
    }
    try:
        for name, (source, file) in outside.items():
            real[name] = data.get(project, source, file, mirror=data.mirror_folder()).read_bytes()
    except MissingDataError:
        real = {name: data for name, data in real.items() if name in ("report", "chain", "rim", "policy")}
    if "ccel" in real:
        real["ccel"] = real["ccel"].rstrip(b"\xff")[:40_000]
    if "ocsp" in real:
        import base64

        real["ocsp"] = base64.b64decode(real["ocsp"])
    return real


def main() -> None:
    from otr_node.project import find_project
    from otr_paper.store import results

    count, seed = (int(word) for word in (*sys.argv[1:3], *("100000", "1")[len(sys.argv[1:3]) :]))
    found = fuzz(fuzz_corpus(Path(__file__)), count, seed)
    for parser, row in found.items():
        print(parser, " ".join(f"{key}={value:g}" for key, value in row.items()))
    card = results.Card(
        command=f"python -m otr_paper.producers.attestation_fuzz {count} {seed}",
        date=datetime.now(UTC).date().isoformat(),
        machine=results.this_machine(os.cpu_count() or 1),
        versions=results.versions(("cryptography", "signxml", "lxml", "dcap-qvl")),
        seed=seed,
        kind="measured",
    )
    payload = {"inputs_per_parser": count, "findings": 0, "parsers": found}
    results.write_result(find_project(Path(__file__)).root / "data" / "results", "attestation_fuzz", card, payload)


if __name__ == "__main__":
    main()
