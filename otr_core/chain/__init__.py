"""Contracts and the EVM they run on: Vyper compiled here, executed by py-evm, gas from transaction receipts only."""
