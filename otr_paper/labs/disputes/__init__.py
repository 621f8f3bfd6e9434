"""Disputes on a tiny model: a world to play them in, players that cheat, and the contract played
beside the court."""
