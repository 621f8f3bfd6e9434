"""Tier 3: spot checks with real zero-knowledge proofs, drawn by a beacon and tied to the trace they check."""
