"""Studies over many draws: populations, sweeps, detection by cheat, dispute costs, crowds of
challengers."""
