"""Tier 1: offline, explained appraisal of TEE evidence (NVIDIA GPUs and NVSwitches,
Intel TDX and SGX, AMD SEV-SNP).

Receipts (``otr_core.poea``) use this package for their event logs, but need neither XML nor quotes.
So lxml and dcap_qvl, which take as long to load as all the rest, are imported inside the functions
that use them.
"""

from otr_core.attestation.appraisal import Appraisal, appraise
from otr_core.attestation.bundle import Bundle, load_bundle
from otr_core.attestation.policy import Policy

__all__ = ["Appraisal", "Bundle", "Policy", "appraise", "load_bundle"]
