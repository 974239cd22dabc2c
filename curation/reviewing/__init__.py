"""Look at scenes in FiftyOne and take the verdicts back into the ledger."""
