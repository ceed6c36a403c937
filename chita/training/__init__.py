"""Running a network: evaluation, and (later) fine-tuning."""
