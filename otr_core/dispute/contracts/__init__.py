"""The Vyper sources of the court and its judge."""
