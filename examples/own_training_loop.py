"""Fine-tuning in a loop of one's own, while zeros stay zero: `python own_training_loop.py`.

An Enforcer hooks into the optimizer; the loop itself knows nothing of masks.
"""

import torch
from torch import nn

import chita
from chita.data.digits import digits


def train(model, optimizer, inputs, targets, epochs):
    """A loop like any other."""
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()


def zeros(model, masks):
    """How many of the removed weights are zero, of how many."""
    removed = sum(int((~mask).sum()) for mask in masks.values())
    filled = sum(int((model.get_parameter(n)[~m] != 0).sum()) for n, m in masks.items())
    return f"{removed - filled:,} of {removed:,} removed weights are zero"


def main():
    """Prune to 2 %, train with zeros held, and once without, for comparison."""
    calibration, evaluation = digits()
    inputs, targets = next(calibration.batches(len(calibration)))
    dense = chita.load_model("digits-mlp")
    result = chita.prune(dense, calibration, sparsity=0.98, fisher=chita.Fisher(samples=500))
    result.save("sparse", force=True)
    print("dense:  ", chita.evaluate(dense, evaluation))
    print("pruned: ", chita.evaluate(result.model, evaluation))

    for held in (True, False):
        torch.manual_seed(0)
        model = chita.load_model("digits-mlp", "sparse")
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
        if held:
            chita.Enforcer(model, "sparse").attach(optimizer)
        train(model.train(), optimizer, inputs, targets, epochs=15)
        name = "trained under masks:" if held else "trained without:"
        print(f"{name:21}{chita.evaluate(model, evaluation)}; {zeros(model, result.masks)}")


if __name__ == "__main__":
    main()
