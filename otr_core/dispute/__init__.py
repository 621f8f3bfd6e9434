"""Tier 2: a dispute about one answer of the portable lane, from its trace root down to one arithmetic step."""
