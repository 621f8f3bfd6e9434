"""Run by NVIDIA's own interpreter: one GPU through nv-local-gpu-verifier 2.7.3, as its ``attest``
does it.

``python nvidia_verifier.py RUNS REPORT CHAIN DRIVER_RIM VBIOS_RIM``. Stubbed: the download of
manifests (the given files are returned), the OCSP requests (answered "good"), the driver mode (no
driver here). OpenSSL certificates are checked at a time when the signers of the manifests were
valid. Prints CPU milliseconds as JSON, the least and the median, as ``benches/appraise.py`` does.
"""

import contextlib
import datetime
import gc
import io
import json
import logging
import statistics
import sys
import time
from pathlib import Path

from OpenSSL import crypto


class StoppedClock(crypto.X509StoreContext):
    """OpenSSL's certificate check with its clock at a time when all signers were valid."""

    def __init__(self, store: crypto.X509Store, certificate: crypto.X509, chain: object = None) -> None:
        store.set_time(datetime.datetime(2025, 1, 15))
        super().__init__(store, certificate, chain)


crypto.X509StoreContext = StoppedClock
started = time.process_time()
from verifier import cc_admin  # noqa: E402
from verifier.cc_admin_utils import CcAdminUtils  # noqa: E402
from verifier.config import BaseSettings, HopperSettings  # noqa: E402
from verifier.nvml.nvmlHandlerTest import NvmlHandlerTest  # noqa: E402

imported_ms = 1000 * (time.process_time() - started)
runs = int(sys.argv[1])
report, chain, driver, vbios = (Path(name).read_bytes() for name in sys.argv[2:])


class GivenGpu(NvmlHandlerTest):
    """A GPU that answers with the given files."""

    def fetch_attestation_report(self) -> bytes:
        return report

    def get_test_attestation_cert_chain(self) -> bytes:
        return chain


def appraised_by_nvidia() -> bool:
    """Everything ``python -m verifier.cc_admin`` does for one GPU after the evidence is there."""
    BaseSettings.mark_attestation_report_as_available()
    arguments = dict.fromkeys(("rim_service_url", "ocsp_url", "service_key", "driver_rim", "vbios_rim"))
    arguments |= dict.fromkeys(("allow_hold_cert", "ocsp_nonce_disabled", "verbose", "test_no_gpu"), False)
    arguments |= {"user_mode": True, "claims_version": "3.0"}
    passed, _claims = cc_admin.attest(arguments, report[4:36].hex(), [GivenGpu(HopperSettings)])
    return bool(passed)


CcAdminUtils.ocsp_certificate_chain_validation = staticmethod(lambda *_: (True, "", "good", None))
CcAdminUtils.fetch_rim_file = staticmethod(lambda name: (driver if "DRIVER" in name else vbios).decode())
cc_admin.NvmlHandler.is_cc_dev_mode = staticmethod(lambda: False)
logging.disable(logging.CRITICAL)


def once_ms() -> float:
    """CPU milliseconds of this thread for one appraisal, which is a block of its own: it takes longer
    than the blocks of ``benches/appraise.py``."""
    begin = time.thread_time()
    with contextlib.redirect_stdout(io.StringIO()):
        assert appraised_by_nvidia(), "nv-local-gpu-verifier rejected the report"
    return 1000 * (time.thread_time() - begin)


first_ms = once_ms()
gc.collect()
gc.freeze()
times = [once_ms() for _ in range(runs)]
found = {"nvidia_ms": min(times), "nvidia_ms_median": statistics.median(times)}
print(json.dumps(found | {"nvidia_first_ms": first_ms, "nvidia_import_ms": imported_ms}))
