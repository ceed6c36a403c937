"""Runtimes: networks converted, loaded and measured in them."""
