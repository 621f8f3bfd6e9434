"""``otr record`` on a CPU with the tiny checkpoint; the hardware's replies are recorded ones."""

from __future__ import annotations

import base64
import itertools
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from otr_core.errors import HardwareError, ParameterError
from otr_node.hardware import LocalHardware
from otr_node.lanes import load_model
from otr_node.model import Model
from otr_paper.benches.machine import RecordPlan, record

PLAN = RecordPlan(["w5 w9", "w7"], 4, 2, b"n" * 32, b"r" * 32, b"s" * 32)


class Recorded:
    """An H100 that answers as recorded; its clock ticks a quarter second per reading."""

    def __init__(self, missing: tuple[str, ...] = ()) -> None:
        self._missing, self._ticks = missing, itertools.count(0, 0.25)

    def clock(self) -> float:
        return next(self._ticks)

    def _reply(self, name: str, value: Any) -> Any:
        if name in self._missing:
            raise HardwareError(f"{name} is not here")
        return value

    def facts(self) -> dict[str, Any]:
        return self._reply("device", {"name": "NVIDIA H100", "confidential": True})

    def power_w(self) -> float:
        return self._reply("power_w", 412.5)

    def gpu_report(self, nonce: bytes) -> bytes:
        return self._reply("gpu", b"report over " + nonce)

    def gpu_certificates(self) -> bytes:
        return self._reply("gpu_certs", b"chain")

    def tdx_evidence(self, report_data: bytes) -> tuple[bytes, bytes | None]:
        return self._reply("quote", (b"quote over " + report_data, b"log"))


@pytest.fixture(scope="module")
def model(tiny: Path) -> Model:
    """The tiny model, loaded."""
    return load_model(tiny)


def test_a_complete_record(model: Model) -> None:
    payload = record(model, PLAN, Recorded())
    assert payload["absent"] == {}
    assert payload["plain"] == payload["traced"] == {"first_token_s": 0.25, "tokens_per_s": 4.0}
    assert payload["power_w"] == 412.5
    assert payload["nonce"] == "6e" * 32
    assert base64.b64decode(payload["evidence"]["gpu"][0]) == b"report over " + b"n" * 32
    assert base64.b64decode(payload["evidence"]["quote"]) == b"quote over " + b"r" * 32 + b"n" * 32
    assert base64.b64decode(payload["evidence"]["event_log"]) == b"log"
    assert [len(answer["token_ids"]) for answer in payload["answers"]] == [4, 4]
    assert payload["model"]["model_id"] == model.manifest.model_id.hex()
    again = record(model, PLAN, Recorded())
    assert again == payload


def test_what_is_absent_is_named_and_not_filled_in(model: Model) -> None:
    missing = ("device", "power_w", "gpu", "gpu_certs", "quote")
    payload = record(model, PLAN, Recorded(missing))
    found = {name: f"{name} is not here" for name in missing}
    assert payload["absent"] == {**found, "event_log": found["quote"]}
    assert payload["device"] is payload["power_w"] is payload["evidence"]["quote"] is None
    assert payload["evidence"]["gpu"] == []
    assert payload["plain"]["tokens_per_s"] == 4.0


@pytest.mark.parametrize("change", [{"prompts": []}, {"repeats": 0}, {"max_tokens": 1}])
def test_plans_out_of_range(change: dict[str, Any]) -> None:
    from dataclasses import replace

    with pytest.raises(ParameterError, match=next(iter(change))):
        replace(PLAN, **change)


def test_this_machine_says_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    here = LocalHardware("cpu", tmp_path / "tsm")
    assert here.clock() <= here.clock()
    for call in (here.facts, here.power_w, here.gpu_certificates, lambda: here.gpu_report(bytes(32))):
        with pytest.raises(HardwareError, match="nvidia-ml-py"):
            call()
    with pytest.raises(HardwareError, match="no TDX quote"):
        here.tdx_evidence(bytes(64))
    with pytest.raises(HardwareError, match="found 63 bytes"):
        here.tdx_evidence(bytes(63))


class NVMLError(Exception):
    pass


def fake_nvml(**changes: Any) -> SimpleNamespace:
    """NVML as nvidia-ml-py presents it: buffers longer than their content."""
    calls: list[str] = []
    report = SimpleNamespace(attestationReport=list(b"signed") + [0] * 10, attestationReportSize=6)
    chain = SimpleNamespace(attestationCertChain=list(b"pem") + [0] * 10, attestationCertChainSize=3)
    state = SimpleNamespace(ccFeature=1, devToolsMode=0)
    parts: dict[str, Any] = {
        "NVMLError": NVMLError,
        "nvmlInit": lambda: calls.append("init"),
        "nvmlShutdown": lambda: calls.append("shutdown"),
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlSystemGetConfComputeState": lambda: state,
        "nvmlDeviceGetName": lambda handle: f"H100 number {handle}",
        "nvmlSystemGetDriverVersion": lambda: "550.90.07",
        "nvmlDeviceGetVbiosVersion": lambda handle: "96.00.9F.00.01",
        "nvmlDeviceGetPowerUsage": lambda handle: 412_500,
        "nvmlDeviceGetConfComputeGpuAttestationReport": lambda handle, nonce: report,
        "nvmlDeviceGetConfComputeGpuCertificate": lambda handle: chain,
        "calls": calls,
    }
    return SimpleNamespace(**(parts | changes))


def test_nvml_is_asked_as_its_package_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = fake_nvml()
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    here = LocalHardware("cuda:1")
    assert here.facts() == {
        "name": "H100 number 1",
        "driver": "550.90.07",
        "vbios": "96.00.9F.00.01",
        "confidential": True,
        "dev_tools": False,
    }
    assert (here.gpu_report(bytes(32)), here.gpu_certificates(), here.power_w()) == (b"signed", b"pem", 412.5)
    assert nvml.calls == ["init", "shutdown"] * 4

    def fails(*_: Any) -> None:
        raise NVMLError("Not Supported")

    monkeypatch.setitem(sys.modules, "pynvml", fake_nvml(nvmlDeviceGetPowerUsage=fails))
    with pytest.raises(HardwareError, match="Not Supported"):
        here.power_w()


@pytest.mark.parametrize("on", [0, 1])
def test_a_driver_that_gives_no_report_is_told_apart_from_a_mode_that_is_off(
    monkeypatch: pytest.MonkeyPatch, on: int
) -> None:
    def fails(*_: Any) -> None:
        raise NVMLError("Unknown Error")

    state = SimpleNamespace(ccFeature=on, devToolsMode=0)
    calls = ("nvmlDeviceGetConfComputeGpuAttestationReport", "nvmlDeviceGetConfComputeGpuCertificate")
    nvml = fake_nvml(nvmlSystemGetConfComputeState=lambda: state, **dict.fromkeys(calls, fails))
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    here = LocalHardware("cuda:0")
    for call in (here.gpu_certificates, lambda: here.gpu_report(bytes(32))):
        with pytest.raises(HardwareError) as caught:
            call()
        why = "" if on else "; confidential computing is off on this machine"
        assert str(caught.value) == f"NVML: Unknown Error{why}"
    assert nvml.calls == ["init", "shutdown"] * 2


@pytest.mark.parametrize("provider", ["tdx_guest", "sev_guest"])
def test_a_quote_through_the_kernel_interface(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, provider: str) -> None:
    """A folder that behaves like the kernel's: attributes appear with the entry, generation counts
    writes."""
    made = tmp_path / "otr-7272727272727272"
    steps = iter([1, 1])
    real_mkdir, real_write = Path.mkdir, Path.write_bytes

    def mkdir(self: Path) -> None:
        real_mkdir(self)
        (self / "generation").write_text("4\n")
        (self / "provider").write_text(provider + "\n")

    def write(self: Path, data: bytes) -> int:
        (self.parent / "generation").write_text(f"{4 + next(steps)}\n")
        return real_write(self.parent / "outblob", b"quote over " + data)

    def rmdir(self: Path) -> None:
        for path in self.iterdir():
            path.unlink()
        self.parent.joinpath(self.name).is_dir()

    monkeypatch.setattr(Path, "mkdir", mkdir)
    monkeypatch.setattr(Path, "write_bytes", write)
    monkeypatch.setattr(Path, "rmdir", rmdir)
    here = LocalHardware("cpu", tmp_path)
    if provider == "tdx_guest":
        assert here.tdx_evidence(b"r" * 64) == (b"quote over " + b"r" * 64, None)
    else:
        with pytest.raises(HardwareError, match="sev_guest"):
            here.tdx_evidence(b"r" * 64)
    assert list(made.iterdir()) == []
    steps = iter([2])  # another writer came between
    real_rmdir = made
    import shutil

    shutil.rmtree(real_rmdir)
    if provider == "tdx_guest":
        with pytest.raises(HardwareError, match="generation"):
            here.tdx_evidence(b"r" * 64)
