"""Attack labs: what an adversary tries on each part, and the check that stops it."""
