"""Fuzzing of the evidence parsers: data/results/attestation_fuzz.json.

Each input is a mutation of a real file. It must end in ``EvidenceError`` or in an appraisal; any
other exception, an input that takes over a CPU second, or an accepted forgery is a finding and is
printed with its bytes in hex. The counts are stored where nothing was found and at least ``STORED``
inputs a parser were tried.
"""

from __future__ import annotations

import base64
import json
import random
import resource
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.attestation.policy import SHIPPED
from otr_core.encoding import canonical_json
from otr_core.errors import EvidenceError, MissingDataError, PolicyError
from otr_node import outside
from otr_node.evidence.intake import read_evidence
from otr_node.evidence.outcome import judge
from otr_paper.benches import evidence
from otr_paper.producers import frame

LIMIT_S = 1.0
GROWTH_MIB = 32.0  # libraries loaded on first use included
NOW = datetime(2025, 1, 15, tzinfo=UTC)
STORED = 100_000
#: Parser -> name of a recorded file that is in the wheel, and of one that is in the mirror alone.
IN_WHEEL = {"report": "report", "chain": "chain", "rim": "shipped_driver"}
MIRRORED = {
    **{"ocsp": "ocsp_l3", "vendor": "machine_gpu", "quote": "old_quote", "collateral": "old_collateral"},
    **{"snp": "snp_report", "amd": "snp_vcek"},
}
#: Mirrored as well, parser -> (source, file): event logs, and whole files as intake reads them.
LOGS = {"log": ("near-mpc", "tcb_info.json"), "ccel": ("go-tdx-guest", "ccel_data.dat")}
_TINFOIL = "tinfoil_v3_direct_gemma4-31b_20260622_235412"
WHOLE = {
    "response": (
        "field-captures",
        f"{_TINFOIL}/0002_gemma4-31b-1.inf10.tinfoil.sh_.well-known_tinfoil-attestation.body",
    ),
    "jsonpickle": ("hgx", "blackwell_two_of_mpt.json"),
    "container": ("dstack", "tdx-lite-attestation.json"),
    "pcs": ("field-captures", f"{_TINFOIL}/0003_api.trustedservices.intel.com_tdx_certification_v4_tcb.body"),
    "token": ("field-captures", f"{_TINFOIL}/0007_nras.attestation.nvidia.com_v3_attest_gpu.body"),
    "keys": ("field-captures", f"{_TINFOIL}/0008_nras.attestation.nvidia.com_.well-known_jwks.json.body"),
}
_CHUNKS = (b"", b"\0", b"\xff" * 4, b"\x00\x00\x00\x80", b"<!DOCTYPE a>", b"&lt;", b"{}", b"[", b'"', b"-----", b"\n")


def _mutate(data: bytes, rng: random.Random) -> bytes:
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


def _slots(real: Mapping[str, bytes]) -> dict[str, tuple[bytes, Callable[[bytes], dict[str, Any]]]]:
    """Parsers by name: a real file to mutate, and how a mutated one is handed in."""
    gpu = {"gpu": [real["report"]], "gpu_certs": [real["chain"]]}
    cpu = {"quote": real.get("quote"), "collateral": real.get("collateral")}
    ways: dict[str, Callable[[bytes], dict[str, Any]]] = {
        "report": lambda data: {**gpu, "gpu": [data]},
        "chain": lambda data: {**gpu, "gpu_certs": [data]},
        "rim": lambda data: {**gpu, "rims": [data]},
        "vendor": lambda data: {"gpu": [data]},
        "ocsp": lambda data: {**gpu, "ocsp": [data]},
        "quote": lambda data: {**cpu, "quote": data},
        "collateral": lambda data: {**cpu, "collateral": data},
        "log": lambda data: {**cpu, "event_log": data},
        "ccel": lambda data: {**cpu, "event_log": data},
        "snp": lambda data: {"quote": data, "collateral": real["amd"]},
        "amd": lambda data: {"quote": real["snp"], "collateral": data},
        "policy": lambda data: {"policy": data},
        **{name: lambda data: {"whole": [data]} for name in ("response", "jsonpickle", "container")},
        "pcs": lambda data: {"whole": [real["container"], data]},
        "token": lambda data: {"whole": [real["response"], data, real["keys"]]},
        "keys": lambda data: {"whole": [real["response"], real["token"], data]},
    }
    return {name: (real[name], way) for name, way in ways.items() if name in real}


def fuzz(real: Mapping[str, bytes], inputs: int, seed: int) -> dict[str, dict[str, float]]:
    """Run ``inputs`` mutations per parser.

    Returns:
        Per parser: numbers of unreadable, rejected and accepted, the slowest in seconds, growth of
        memory in MiB.

    Raises:
        AssertionError: a finding; the message has parser, number and the exception.
    """
    results = {}
    for name, (data, files) in _slots(real).items():
        rng, cache = random.Random(f"{seed}/{name}"), VerifiedCache(max_entries=64)
        counts: dict[str, float] = {"unreadable": 0, "rejected": 0, "accepted": 0, "slowest_s": 0.0}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number in range(inputs):
            mutated = _mutate(data, rng)
            start = time.process_time()
            try:
                counts[_outcome(files(mutated), cache)] += 1
            except Exception as error:
                raise AssertionError(f"{name} input {number}: {error!r} from {mutated[:4096].hex()}") from error
            took = time.process_time() - start
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
        if "whole" in files:
            named = [(str(number), data) for number, data in enumerate(files["whole"])]
            found = judge(read_evidence(named), lambda bundle: appraise(bundle, Policy.default(), NOW), NOW)
            canonical_json(found.document())
            return "accepted" if found.accepted else "rejected"
        policy = Policy.default().expecting("gpu" if "gpu" in files else "cpu")
        result = appraise(load_bundle(**files), policy, NOW, cache=cache)
    except (EvidenceError, PolicyError):
        return "unreadable"
    result.to_json()
    return result.verdict


def fuzz_corpus() -> dict[str, bytes]:
    """Real files to mutate: from the wheel, and from the mirror where it is present."""
    project, mirror = frame.checkout(), outside.mirror_folder()
    found = evidence.recorded_evidence(project, IN_WHEEL.values())
    real = {parser: found[name] for parser, name in IN_WHEEL.items()}
    real |= {"report": bytes.fromhex(real["report"].decode()), "policy": (SHIPPED / "default.toml").read_bytes()}
    try:
        found = evidence.recorded_evidence(project, MIRRORED.values())
        more = {
            parser: outside.get(project, *where, mirror=mirror).read_bytes()
            for parser, where in {**LOGS, **WHOLE}.items()
        }
    except MissingDataError:
        return real
    more |= {parser: found[name] for parser, name in MIRRORED.items()}
    more["ccel"] = more["ccel"].rstrip(b"\xff")[:40_000]
    more["container"] = bytes.fromhex(json.loads(more["container"])["attestation"])
    more["ocsp"] = base64.b64decode(more["ocsp"])
    return real | more


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument("inputs", nargs="?", type=int, default=STORED, help="per parser; fewer than 100000: not stored")
    parser.add_argument("seed", nargs="?", type=int, default=1)
    given = parser.parse_args()
    found = fuzz(fuzz_corpus(), given.inputs, given.seed)
    for name, row in found.items():
        print(name, " ".join(f"{key}={value:g}" for key, value in row.items()))
    payload = {"inputs_per_parser": given.inputs, "findings": 0, "parsers": found}
    if given.inputs >= STORED:
        words = f"{given.inputs} {given.seed}"
        frame.store("attestation_fuzz", payload, seed=given.seed, packages=frame.ATTESTATION_LIBRARIES, given=words)


if __name__ == "__main__":
    main()
