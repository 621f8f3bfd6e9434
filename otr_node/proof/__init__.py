"""The prover of whole answers."""
