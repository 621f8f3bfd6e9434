"""Tier 3: spot checks by zero-knowledge proofs, drawn by a beacon, tied to the trace."""
