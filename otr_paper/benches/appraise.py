"""What appraisal costs: one GPU, a machine of eight, a TDX quote beside bare dcap-qvl, and a stream.

All times are CPU times of the thread, from the files' bytes to the verdict, of blocks of calls of one
kind: the least mean of a block, as whoever else uses the machine can only lengthen one; beside it the
median block (``_median``). Blocks of all kinds alternate, and before each one call of its own kind is
not counted, so that every kind, dcap-qvl's too, finds the processor's caches as it leaves them itself.
*Cold* starts with nothing remembered; *cached* has met the machine and the manifests before, but never
the report: each report is another, so that its signature is verified each time (and refuted, which
costs the same).
"""

from __future__ import annotations

import gc
import resource
import statistics
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count
from typing import Any

import dcap_qvl

from otr_core.attestation import Policy, appraise, load_bundle
from otr_core.attestation.chain import VerifiedCache
from otr_core.errors import InputError
from otr_node import outside
from otr_node.project import Project
from otr_paper.benches.hostile import hostile_files, reading_s

GPU_TIME, TDX_TIME = datetime(2025, 1, 15, tzinfo=UTC), datetime(2025, 6, 20, tzinfo=UTC)
GO = "go-nvattest-tools"
FILES = {
    "report": (GO, "test_raw_gpu_attestation_report.dat"),
    "chain": (GO, "test_gpu_attestation_certificate_chain.dat"),
    "driver": (GO, "rim/NV_GPU_DRIVER_GH100_550.90.07.xml"),
    "vbios": (GO, "rim/NV_GPU_VBIOS_1010_0200_882_96009F0001.xml"),
    "quote": ("dcap-qvl", "tdx_quote"),
    "collateral": ("dcap-qvl", "tdx_quote_collateral.json"),
}
_GPUS = 8
#: Of calls of one kind in a row, so short that some block meets nobody else on its core.
_BLOCK_S = 0.005


@dataclass(frozen=True)
class AppraisePlan:
    """How many blocks of each kind are measured, and how many bundles the stream has: in one thread,
    and in each of 16."""

    runs: int = 101
    stream: int = 1000
    each: int = 100
    threads: int = 16

    def __post_init__(self) -> None:
        if not 1 <= self.runs <= 10_000 or not 200 <= self.stream <= 1_000_000:
            raise InputError(
                f"bench: found {self.runs} runs and {self.stream} bundles, expected 1 to 10000 and from 200"
            )
        if not 16 <= self.each <= 1_000_000:
            raise InputError(f"bench: found {self.each} bundles a thread, expected 16 to 1000000")


def bench_files(project: Project) -> dict[str, bytes]:
    """The files that are measured.

    Raises:
        MissingDataError: they are not here.
    """
    mirror = outside.mirror_folder()
    return {name: outside.get(project, *where, mirror=mirror).read_bytes() for name, where in FILES.items()}


def measure_appraise(raw: dict[str, bytes], plan: AppraisePlan) -> dict[str, Any]:
    """All figures, milliseconds and MiB; ``bundles_per_minute`` is of one core, ``hostile_s`` the CPU
    seconds of the slowest to read of the files of 8 MB that are made for that."""
    policy, fresh = Policy.default(), count(1)
    gpu_rules, tdx_rules = policy.expecting("gpu"), policy.expecting("tdx")
    rims = [raw["driver"], raw["vbios"]]
    gpu: dict[str, Any] = {"gpu": [raw["report"]], "gpu_certs": [raw["chain"]], "rims": rims}
    cpu: dict[str, Any] = {"quote": raw["quote"], "collateral": raw["collateral"]}

    def unseen() -> bytes:
        """The report with another nonce, so that nothing about it can be remembered."""
        return raw["report"][:4] + next(fresh).to_bytes(8, "big") + raw["report"][12:]

    def judge(reports: int, cache: VerifiedCache) -> str:
        files: dict[str, Any] = {
            "gpu": [unseen() for _ in range(reports)],
            "gpu_certs": [raw["chain"]] * reports,
            "rims": rims,
        }
        return appraise(load_bundle(**files, cache=cache), gpu_rules, GPU_TIME, cache=cache).verdict

    def cold() -> None:
        if not appraise(load_bundle(**gpu), gpu_rules, GPU_TIME).accepted:
            raise InputError("bench: found a rejected GPU, expected the recorded one to be accepted")

    def tdx(cache: VerifiedCache | None) -> None:
        if not appraise(load_bundle(**cpu, cache=cache), tdx_rules, TDX_TIME, cache=cache).accepted:
            raise InputError("bench: found a rejected quote, expected the recorded one to be accepted")

    warm, parsed = VerifiedCache(), dcap_qvl.QuoteCollateralV3.from_json(raw["collateral"].decode())
    seconds = int(TDX_TIME.timestamp())
    calls: dict[str, Callable[[], object]] = {
        "gpu_cold_ms": cold,
        "gpu_cached_ms": lambda: judge(1, warm),
        "node8_cached_ms": lambda: judge(_GPUS, warm),
        "tdx_cold_ms": lambda: tdx(None),
        "tdx_ms": lambda: tdx(warm),
        "dcap_qvl_ms": lambda: dcap_qvl.verify(raw["quote"], parsed, seconds),
    }
    found = cpu_ms(plan.runs, calls)
    for end in ("", "_median"):
        found[f"tdx_over_dcap_qvl{end}"] = found[f"tdx_ms{end}"] / found[f"dcap_qvl_ms{end}"]
    return (
        found
        | _stream(lambda cache: judge(1, cache), plan.stream)
        | threaded_stream(lambda cache: judge(1, cache), cold, plan)
        | _slowest(raw)
    )


def _slowest(raw: dict[str, bytes]) -> dict[str, Any]:
    gc.collect()
    gc.freeze()
    try:
        took = {name: reading_s(name, data) for name, data in hostile_files(raw)}
    finally:
        gc.unfreeze()
    worst = max(took, key=lambda name: took[name])
    return {"hostile_files": len(took), "hostile_slowest": worst, "hostile_s": took[worst]}


def cpu_ms(blocks: int, calls: dict[str, Callable[[], object]]) -> dict[str, float]:
    """CPU milliseconds of each call: the least mean of a block, and the median of the blocks' means."""
    gc.collect()
    gc.freeze()  # what else the process holds is no part of an appraisal's garbage
    try:
        rounds = [{name: _block_ms(call) for name, call in calls.items()} for _ in range(1 + blocks)][1:]
    finally:
        gc.unfreeze()
    found = dict[str, float]()
    for name in calls:
        means = [one[name] for one in rounds]
        found |= {name: min(means), f"{name}_median": statistics.median(means)}
    return found


def _block_ms(call: Callable[[], object]) -> float:
    """Mean CPU milliseconds of this thread over a block of calls; one call before is not counted."""
    started = time.thread_time()
    call()
    calls = max(1, round(_BLOCK_S / max(time.thread_time() - started, 1e-6)))
    started = time.thread_time()
    for _ in range(calls):
        call()
    return 1000 * (time.thread_time() - started) / calls


def _stream(one: Callable[[VerifiedCache], object], bundles: int) -> dict[str, float]:
    """Rate and memory while bundles pass through one small cache."""
    cache, peaks, started = VerifiedCache(max_entries=64), [], time.process_time()
    for _ in range(bundles):
        one(cache)
        peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    spent = time.process_time() - started
    return {
        "stream_bundles": bundles,
        "stream_peak_after_100_mib": peaks[99],
        "stream_peak_at_end_mib": peaks[-1],
        "stream_ms_per_bundle": 1000 * spent / bundles,
        "bundles_per_minute": 60 * bundles / spent,
    }


def threaded_stream(
    forged: Callable[[VerifiedCache], str], honest: Callable[[], object], plan: AppraisePlan
) -> dict[str, Any]:
    """A stream through each of many threads that share a small cache, under filters of the host's own
    choice: every 16th bundle is the honest one, with nothing remembered.

    Args:
        forged: judges a forged report. honest: judges the honest one, and raises if it is rejected.

    Raises:
        InputError: a verdict is another than alone, or the host's warnings are treated otherwise after.
    """
    cache, started, peaks = VerifiedCache(max_entries=16), time.process_time(), list[float]()

    def one(thread: int) -> None:
        for number in range(plan.each):
            if (thread + number) % 16 == 0:
                honest()
            elif forged(cache) != "rejected":
                raise InputError("bench: found a forged report accepted")
            if number == plan.each // 10:
                peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)

    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        before = list(warnings.filters)
        with ThreadPoolExecutor(plan.threads) as pool:
            for _ in pool.map(one, range(plan.threads)):
                pass
        if warnings.filters != before:
            raise InputError("bench: found other warning filters than before, expected the host's own")
    spent, bundles = time.process_time() - started, plan.threads * plan.each
    return {
        "threads": plan.threads,
        "threads_bundles": bundles,
        "threads_filters_changed": 0,
        "threads_ms_per_bundle": 1000 * spent / bundles,
        "threads_bundles_per_minute": 60 * bundles / spent,
        "threads_peak_after_a_tenth_mib": max(peaks),
        "threads_peak_at_end_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
