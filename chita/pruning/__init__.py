"""The drivers: the only place where the maths meets a network."""
