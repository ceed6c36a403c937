"""What a network is called with, where its data or the network itself show it."""

from __future__ import annotations

from torch import nn

from chita.data.batches import Data, batches_of
from chita.runtimes.inputs import Inputs, inputs_of


def sampled_inputs(network: nn.Module, data: Data | None, samples: int) -> Inputs | None:
    """Return inputs of so many samples: of the data, or `dummy_inputs` of the network.

    None where there are neither.
    """
    if data is not None:
        batch = next(batches_of(data, samples))
        pair = isinstance(batch, (tuple, list)) and len(batch) == 2
        return inputs_of(batch[0] if pair else batch).resized(samples)
    shown = getattr(network, "dummy_inputs", None)
    return None if shown is None else inputs_of(shown).resized(samples)
