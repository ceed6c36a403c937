"""All that knows about networks: their prunable weights, their checkpoints, named networks."""
