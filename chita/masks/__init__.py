"""Masks of networks: read, stored, and held while others train."""
