"""Files that a pruned network is written to, and their checks."""
