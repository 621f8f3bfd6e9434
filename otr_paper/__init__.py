"""What serves the paper and not the protocol: claims and ledger, simulation, attack labs, figures,
notebook runs."""
