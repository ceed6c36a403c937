"""Networks: their prunable weights, their checkpoints, networks by name."""
