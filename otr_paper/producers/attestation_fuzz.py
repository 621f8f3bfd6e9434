"""Fuzzing of the evidence parsers: data/results/attestation_fuzz.json.

Each input is a mutation of a real file. It must end in ``EvidenceError`` or in an appraisal; any
other exception, an input that takes over a CPU second, or an accepted forgery is a finding and is
printed with its bytes in hex. The counts are stored where nothing was found and at least ``STORED``
inputs a parser were tried, evenly under each of three seeds. A run that was cut off goes on from the
parsers that it had finished.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import hashlib
import json
import random
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache, parse_chain
from otr_core.attestation.eventlog import parse_event_log
from otr_core.attestation.ocsp import parse_ocsp
from otr_core.attestation.policy import SHIPPED
from otr_core.attestation.quote import parse_collateral, parse_quote
from otr_core.attestation.report import parse_report
from otr_core.attestation.rim import parse_rim
from otr_core.attestation.snp import parse_snp_certificates
from otr_core.encoding import canonical_json, parse_json
from otr_core.errors import EvidenceError, MissingDataError, PolicyError
from otr_core.files import write_bytes
from otr_node import outside
from otr_node.evidence.intake import read_evidence
from otr_node.evidence.outcome import judge
from otr_node.evidence.pieces import PieceReader
from otr_node.evidence.tokens import read_token
from otr_node.project import Project
from otr_paper.benches import evidence
from otr_paper.producers import frame

LIMIT_S = 1.0
#: Of inputs that cannot be parsed one in so many is handed in for a verdict all the same, and of whole
#: files, whose parsing tells little apart, one in so many of those that can.
_UNREADABLE_SHARE, _WHOLE_SHARE = 16, 8
#: What vouches for a report alone.
_AUTHENTIC = ("gpu.signature", "gpu.chain.links", "gpu.chain.root")
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
INTAKE = ("response", "jsonpickle", "container", "pcs", "token", "keys")
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


Files = dict[str, Any]
Row = dict[str, float | str]
#: A real file to mutate, how a mutated one is parsed, and how it is handed in for a verdict.
Slot = tuple[bytes, Callable[[bytes], object], Callable[[bytes], Files]]


def _slots(real: Mapping[str, bytes]) -> dict[str, Slot]:
    """Parsers by name."""
    gpu = {"gpu": [real["report"]], "gpu_certs": [real["chain"]]}
    cpu = {"quote": real.get("quote"), "collateral": real.get("collateral")}
    ways: dict[str, tuple[Callable[[bytes], object], Callable[[bytes], Files]]] = {
        "report": (parse_report, lambda data: {**gpu, "gpu": [data]}),
        "chain": (parse_chain, lambda data: {**gpu, "gpu_certs": [data]}),
        "rim": (parse_rim, lambda data: {**gpu, "rims": [data]}),
        "vendor": (lambda data: load_bundle(gpu=[data]), lambda data: {"gpu": [data]}),
        "ocsp": (parse_ocsp, lambda data: {**gpu, "ocsp": [data]}),
        "quote": (parse_quote, lambda data: {**cpu, "quote": data}),
        "collateral": (parse_collateral, lambda data: {**cpu, "collateral": data}),
        "log": (parse_event_log, lambda data: {**cpu, "event_log": data}),
        "ccel": (parse_event_log, lambda data: {**cpu, "event_log": data}),
        "snp": (parse_quote, lambda data: {"quote": data, "collateral": real["amd"]}),
        "amd": (parse_snp_certificates, lambda data: {"quote": real["snp"], "collateral": data}),
        "policy": (Policy.from_bytes, lambda data: {"policy": data}),
        **{name: (_pieces, lambda data: {"whole": [data]}) for name in ("response", "jsonpickle", "container")},
        "pcs": (_pieces, lambda data: {"whole": [real["container"], data]}),
        "token": (_pieces, lambda data: {"whole": [real["response"], data, real["keys"]]}),
        "keys": (_pieces, lambda data: {"whole": [real["response"], real["token"], data]}),
    }
    return {name: (real[name], *way) for name, way in ways.items() if name in real}


def _pieces(data: bytes) -> None:
    """All that intake finds in one file, and every token in it read under every key in it."""
    found = PieceReader([]).file("0", data)
    keys = [key for one in found.of("keys") for key in one.parsed]
    for one in found.of("token"):
        with contextlib.suppress(EvidenceError):  # listed as ignored
            read_token(one.data.decode(), keys, NOW)


def fuzz(
    real: Mapping[str, bytes],
    inputs: int,
    seed: int,
    only: Sequence[str] = (),
    kept: Callable[[str], Path] | None = None,
) -> dict[str, Row]:
    """Run ``inputs`` mutations per parser: each is parsed, and what parses goes on to a verdict, as
    does a share of the rest.

    Args:
        only: names of parsers; empty for all.
        kept: where the row of a parser is kept once it is through, and taken from; behind the parser's
            name stands the digest of the code that made it.

    Returns:
        Per parser: numbers of unreadable, rejected and accepted, how many went on to a verdict, the
        slowest in seconds, growth of memory in MiB, CPU time in seconds; of kept rows also the code.

    Raises:
        AssertionError: a finding; the message has parser, number and the exception.
    """
    results = dict[str, Row]()
    for name, slot in _slots(real).items():
        if only and name not in only:
            continue
        row = None if kept is None else kept(name)
        if row is not None and row.exists():
            results[name] = parse_json(row.read_bytes())
            continue
        results[name] = {**_fuzz_one(name, slot, inputs, seed)}
        if row is not None:
            results[name]["code"] = row.name.split("-")[1]
            write_bytes(row, json.dumps(results[name]).encode())
            frame.progress(f"{name}: {results[name]}")
    return results


def _fuzz_one(name: str, slot: Slot, inputs: int, seed: int) -> dict[str, float]:
    data, parse, files = slot
    rng, cache = random.Random(f"{seed}/{name}"), VerifiedCache(max_entries=64)
    share = _WHOLE_SHARE if parse is _pieces else 1
    counts: dict[str, float] = {"unreadable": 0, "rejected": 0, "accepted": 0, "judged": 0, "slowest_s": 0.0}
    before, begun = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    for number in range(inputs):
        mutated = _mutate(data, rng)
        start = time.process_time()
        try:
            try:
                parse(mutated)
                outcome, on = "rejected", number % share == 0
            except (EvidenceError, PolicyError):
                outcome, on = "unreadable", number % _UNREADABLE_SHARE == 0
            if on:
                outcome = _outcome(files(mutated), cache)
                counts["judged"] += 1
            counts[outcome] += 1
        except Exception as error:
            raise AssertionError(f"{name} input {number}: {error!r} from {mutated[:4096].hex()}") from error
        took = time.process_time() - start
        counts["slowest_s"] = max(counts["slowest_s"], took)
        assert took < LIMIT_S, f"{name} input {number} took {took:.2f} s: {mutated[:4096].hex()}"
    counts["growth_mib"] = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert counts["growth_mib"] < GROWTH_MIB, f"{name}: memory grew by {counts['growth_mib']:.0f} MiB"
    return counts | {"cpu_s": round(time.process_time() - begun, 1)}


def _outcome(files: Files, cache: VerifiedCache) -> str:
    try:
        if "policy" in files:
            Policy.from_bytes(files["policy"])
            return "accepted"  # a policy that still says something
        if "whole" in files:
            named = [(str(number), data) for number, data in enumerate(files["whole"])]
            intake = read_evidence(named, cache=cache)
            found = judge(intake, lambda bundle: appraise(bundle, Policy.default(), NOW, cache=cache), NOW)
            canonical_json(found.document())
            return "accepted" if found.accepted else "rejected"
        policy = Policy.default().expecting("gpu" if "gpu" in files else "cpu")
        result = appraise(load_bundle(**files, cache=cache), policy, NOW, cache=cache)
    except (EvidenceError, PolicyError):
        return "unreadable"
    result.to_json()
    return result.verdict


def report_flips(real: Mapping[str, bytes]) -> dict[str, int]:
    """Every single bit of the recorded H100 report flipped: how many were tried, and accepted."""
    device, cache, policy = parse_report(real["report"]), VerifiedCache(), Policy.default().expecting("gpu")
    whole = load_bundle(gpu=[real["report"]], gpu_certs=[real["chain"]], cache=cache)
    required = tuple(name for name in policy.require if name in _AUTHENTIC)
    policy, raw, accepted = dataclasses.replace(policy, require=required), bytearray(device.raw), 0
    assert appraise(whole, policy, NOW, cache=cache).accepted
    for bit in range(8 * len(raw)):
        raw[bit // 8] ^= 1 << bit % 8
        with contextlib.suppress(EvidenceError):
            changed = dataclasses.replace(whole.devices[0], report=parse_report(bytes(raw)))
            accepted += appraise(dataclasses.replace(whole, devices=(changed,)), policy, NOW, cache=cache).accepted
        raw[bit // 8] ^= 1 << bit % 8
    return {"tried": 8 * len(raw), "accepted": accepted}


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
    more["keys"] = json.dumps({"keys": json.loads(more["keys"])["keys"][:2]}).encode()
    return real | more


def _kept(project: Project, inputs: int, seed: int) -> Callable[[str], Path]:
    """Where the row of a parser is kept, by name: another file for each state of the code that it runs."""

    def digest(*folders: str) -> str:
        paths = [path for folder in folders for path in sorted((project.root / folder).rglob("*.py"))]
        return hashlib.sha256(b"".join(path.read_bytes() for path in (Path(__file__), *paths))).hexdigest()[:12]

    core, all_of_it = digest("otr_core"), digest("otr_core", "otr_node/evidence")
    folder = project.root / "build" / "attestation_fuzz"
    return lambda name: folder / f"{name}-{all_of_it if name in INTAKE else core}-{inputs}-{seed}.json"


def joined(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One parser's rows, a seed each, as one: counts and times added up, extremes kept, and beside them
    the counts of each seed."""
    told = ("unreadable", "rejected", "accepted")
    whole = {name: sum(row[name] for row in rows) for name in (*told, "judged")}
    whole |= {"cpu_s": round(sum(row["cpu_s"] for row in rows), 1)}
    whole |= {name: max(row[name] for row in rows) for name in ("slowest_s", "growth_mib")}
    return whole | {"by_seed": [[row[name] for name in told] for row in rows], "code": rows[0].get("code", "")}


def main() -> None:
    parser = frame.arguments(__doc__)
    parser.add_argument(
        "inputs", nargs="?", type=int, default=STORED, help="per parser, over all seeds; fewer than 100000: not stored"
    )
    parser.add_argument("seeds", nargs="*", type=int, default=[1, 2, 3])
    parser.add_argument("--only", nargs="*", default=[], help="parsers; their rows are kept for a run over all")
    given = parser.parse_args()
    if len(set(given.seeds)) != len(given.seeds):
        parser.error(f"seeds: found one twice in {given.seeds}, expected each once")
    real, each = fuzz_corpus(), -(-given.inputs // len(given.seeds))
    runs = [fuzz(real, each, seed, given.only, _kept(frame.checkout(), each, seed)) for seed in given.seeds]
    found = {name: joined([run[name] for run in runs]) for name in runs[0]}
    for name, row in found.items():
        print(name, " ".join(f"{key}={value}" for key, value in row.items()))
    if given.inputs >= STORED and not given.only:
        payload = {
            "inputs_per_parser": each * len(given.seeds),
            "seeds": given.seeds,
            "findings": 0,
            "parsers": found,
            "flips_of_a_report": report_flips(real),
        }
        words = " ".join(map(str, (given.inputs, *given.seeds)))
        seed = given.seeds[0]
        frame.store("attestation_fuzz", payload, seed=seed, packages=frame.ATTESTATION_LIBRARIES, given=words)


if __name__ == "__main__":
    main()
