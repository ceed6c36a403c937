"""What a budget must know of a network: the operations that each of its weights costs."""

from __future__ import annotations

from torch import nn

from chita import nested
from chita.collect.cost import with_operations
from chita.constraints import Budget
from chita.data.batches import Data, Indexed, batches_of
from chita.data.examples import Examples
from chita.layout import Layout
from chita.losses import LossLike, make_loss


def layout_for(
    budget: Budget,
    layout: Layout,
    model: nn.Module,
    data: Data | None,
    loss: LossLike,
    *,
    recorded: bool = False,
) -> Layout:
    """Return the layout with what its weights cost for one sample, where the budget needs it.

    `recorded` asks for it where only the record would hold it: of data in memory, since batches
    that come one after another are not begun for that.

    Raises `InputError` as `chita.collect.cost.with_operations` does, where the budget needs it.
    """
    wanted = budget.counts_operations or (recorded and isinstance(data, Indexed))
    if data is None or not wanted:
        return layout
    batch = next(iter(batches_of(data, 1)))
    device = model.get_parameter(layout.names[0]).device
    sample = nested.map_tensors(lambda t: t.to(device), next(Examples(batch).batches(1)))
    needed = budget.counts_operations
    return with_operations(layout, model, make_loss(loss, batch), sample, needed=needed)
