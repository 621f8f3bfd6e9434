"""The tolerance rule for floating-point lanes, and the cheats that know its bounds."""
