"""Masks of networks: stored, and (later) enforced."""
