"""Data sets, and data as users hand them over."""
