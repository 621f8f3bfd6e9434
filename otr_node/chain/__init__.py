"""Courts on an EVM: the embedded one here, with gas from transaction receipts."""
