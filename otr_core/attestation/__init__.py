"""Tier 1: offline, explained appraisal of TEE evidence (NVIDIA GPUs, Intel TDX and SGX)."""

from otr_core.attestation.appraisal import Appraisal, appraise
from otr_core.attestation.bundle import Bundle, load_bundle
from otr_core.attestation.policy import Policy

__all__ = ["Appraisal", "Bundle", "Policy", "appraise", "load_bundle"]
