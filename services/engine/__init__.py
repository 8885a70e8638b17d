"""Pure functions: classify, select, charge, decide. No I/O, no clock, no randomness, no logs."""
