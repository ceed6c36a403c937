"""Small networks of many families, each with a batch of data and a loss."""

from tests.families import convolutional, language, mobile, patches, signals, structure
from tests.families.family import Family

FAMILIES: dict[str, Family] = {
    **convolutional.FAMILIES,
    **mobile.FAMILIES,
    **patches.FAMILIES,
    **language.FAMILIES,
    **signals.FAMILIES,
    **structure.FAMILIES,
}

__all__ = ["FAMILIES", "Family"]
