"""All that ``otr record`` and ``otr collect`` ask of the machine; tests answer with recorded replies.

``LocalHardware`` reads the GPU through NVML (package nvidia-ml-py) and takes a TDX quote through
the kernel's report interface. On the one H100 that its authors had, outside confidential mode, the
driver gave no report. What is absent or fails is reported with the reason, and no value is made up for it.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from otr_core.errors import HardwareError, one_line

#: Linux's attestation report interface (Documentation/ABI/testing/configfs-tsm-report, since 6.7).
TSM_REPORTS = Path("/sys/kernel/config/tsm/report")


_SWITCHES_S, _MOST_BYTES = 120.0, 8 * 2**20

#: Gives a quote over 64 bytes and the event log that goes with it.
QuoteWithLog = Callable[[bytes], tuple[bytes, bytes]]


class Hardware(Protocol):
    """What a machine can be asked. Raises ``HardwareError`` with the reason where it fails."""

    def clock(self) -> float:
        """Monotonic seconds, after all work given to the device is done."""

    def facts(self) -> dict[str, Any]:
        """Device name, driver, VBIOS, confidential-computing and DevTools mode."""

    def power_w(self) -> float:
        """Power drawn by the GPU at this moment, watts."""

    def gpu_report(self, nonce: bytes) -> bytes:
        """The GPU's signed SPDM attestation report over a 32-byte nonce."""

    def gpu_certificates(self) -> bytes:
        """The GPU's certificate chain, PEM."""

    def tdx_evidence(self, report_data: bytes) -> tuple[bytes, bytes | None]:
        """A TDX quote over 64 bytes of report data, and the event log of its run-time registers;
        None where the machine keeps none."""


def switch_evidence(command: Sequence[str], nonce: bytes) -> bytes:
    """What a program prints that gathers NVSwitches' reports: NVML has none of them.

    Args:
        command: the program and its words; the nonce, in hex, is added as the last one.

    Raises:
        HardwareError: it cannot be run, fails, or prints more than any machine's evidence.
    """
    try:
        done = subprocess.run([*command, nonce.hex()], capture_output=True, timeout=_SWITCHES_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HardwareError(f"no switch evidence: {one_line(error)}") from error
    if done.returncode or len(done.stdout) > _MOST_BYTES:
        raise HardwareError(f"no switch evidence: found status {done.returncode} and {len(done.stdout)} bytes")
    return done.stdout


class LocalHardware:
    """This machine.

    Args:
        device: as torch names it ("cpu", "cuda", "cuda:1"). tsm_reports: the kernel's folder for
            quotes. agent: makes quotes with their event log (``GuestAgent.quote``), where one runs.
    """

    def __init__(self, device: str, tsm_reports: Path = TSM_REPORTS, agent: QuoteWithLog | None = None) -> None:
        self._device, self._tsm, self._agent = device, tsm_reports, agent

    def clock(self) -> float:
        if self._device.startswith("cuda"):
            import torch

            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def facts(self) -> dict[str, Any]:
        with self._nvml() as (nvml, handle):
            state = nvml.nvmlSystemGetConfComputeState()
            return {
                "name": nvml.nvmlDeviceGetName(handle),
                "driver": nvml.nvmlSystemGetDriverVersion(),
                "vbios": nvml.nvmlDeviceGetVbiosVersion(handle),
                "confidential": bool(state.ccFeature),
                "dev_tools": bool(state.devToolsMode),
            }

    def gpu_count(self) -> int:
        """How many GPUs this machine has."""
        with self._nvml() as (nvml, _):
            return int(nvml.nvmlDeviceGetCount())

    def power_w(self) -> float:
        with self._nvml() as (nvml, handle):
            return float(nvml.nvmlDeviceGetPowerUsage(handle)) / 1000

    def gpu_report(self, nonce: bytes) -> bytes:
        with self._attesting() as (nvml, handle):
            report = nvml.nvmlDeviceGetConfComputeGpuAttestationReport(handle, nonce)
            return bytes(report.attestationReport[: report.attestationReportSize])

    def gpu_certificates(self) -> bytes:
        with self._attesting() as (nvml, handle):
            chain = nvml.nvmlDeviceGetConfComputeGpuCertificate(handle)
            return bytes(chain.attestationCertChain[: chain.attestationCertChainSize])

    def tdx_evidence(self, report_data: bytes) -> tuple[bytes, bytes | None]:
        if len(report_data) != 64:
            raise HardwareError(f"report data: found {len(report_data)} bytes, expected 64")
        # The kernel makes quotes but knows no events. A guest agent keeps both together.
        return (self._kernel_quote(report_data), None) if self._agent is None else self._agent(report_data)

    def _kernel_quote(self, report_data: bytes) -> bytes:
        entry = self._tsm / f"otr-{report_data[:8].hex()}"
        try:
            entry.mkdir()
        except OSError as error:
            raise HardwareError(f"no TDX quote: {self._tsm} cannot be used ({error.strerror})") from error
        try:
            before = int((entry / "generation").read_text())
            (entry / "inblob").write_bytes(report_data)
            quote = (entry / "outblob").read_bytes()
            provider = (entry / "provider").read_text().strip()
            after = int((entry / "generation").read_text())
        except (OSError, ValueError) as error:
            raise HardwareError(f"no TDX quote: {error}") from error
        finally:
            entry.rmdir()
        if provider != "tdx_guest":
            raise HardwareError(f"no TDX quote: found provider {provider!r}, expected 'tdx_guest'")
        if after != before + 1:  # someone else wrote between: the quote may be over other data
            raise HardwareError(f"no TDX quote: found generation {after}, expected {before + 1}; try again")
        return quote

    @contextlib.contextmanager
    def _attesting(self) -> Iterator[tuple[Any, Any]]:
        """As ``_nvml``. Outside confidential computing an H100's driver said "Unknown Error" and no more."""
        with self._nvml() as (nvml, handle):
            try:
                yield nvml, handle
            except nvml.NVMLError as error:
                if nvml.nvmlSystemGetConfComputeState().ccFeature:
                    raise
                raise HardwareError(f"NVML: {error}; confidential computing is off on this machine") from error

    @contextlib.contextmanager
    def _nvml(self) -> Iterator[tuple[Any, Any]]:
        """(pynvml, handle of the device), NVML running meanwhile."""
        try:
            import pynvml  # type: ignore[import-not-found]
        except ImportError as error:
            raise HardwareError("no NVML: package nvidia-ml-py is not installed; pip install nvidia-ml-py") from error
        try:
            pynvml.nvmlInit()
            index = int(self._device.partition(":")[2] or 0)
            yield pynvml, pynvml.nvmlDeviceGetHandleByIndex(index)
        except pynvml.NVMLError as error:
            raise HardwareError(f"NVML: {error}") from error
        finally:
            with contextlib.suppress(pynvml.NVMLError):
                pynvml.nvmlShutdown()
