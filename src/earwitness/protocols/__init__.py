"""The three published black-box protocols: which conditions x which questions x which tables."""
