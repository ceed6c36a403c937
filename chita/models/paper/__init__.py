"""The networks of the papers' benchmarks."""
