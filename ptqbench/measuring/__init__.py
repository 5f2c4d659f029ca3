"""A cell measured: features, prediction errors, metrics, bit ledger, protocol."""
