"""Networks on data: evaluation, batch norms, fine-tuning."""
