"""The contract of pledges, in Vyper (``pledges.vy``): what is lost for a false word about a commitment to a model."""
