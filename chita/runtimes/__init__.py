"""Where networks run: converted, opened, measured."""
