"""A network and data of one's own, for `--model own_network:network --data own_network:data`.

`python own_network.py` trains the network and writes own_network.safetensors.
"""

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_diabetes
from torch import nn


def network():
    """Called without arguments; the weights come from --weights."""
    return nn.Sequential(
        nn.Linear(10, 64), nn.Tanh(), nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 1)
    )


def data():
    """(calibration, evaluation): here pairs of tensors; a DataLoader will do as well."""
    features, progress = load_diabetes(return_X_y=True)
    x, y = torch.tensor(features).float() * 20, torch.tensor(progress).float().unsqueeze(1)
    y = (y - 152) / 77
    return (x[:300], y[:300]), (x[300:], y[300:])


def main():
    """Train with weight decay on the calibration part alone."""
    torch.manual_seed(0)
    model, (x, y) = network(), data()[0]
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.002, weight_decay=0.1)
    for _ in range(60):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(x), y).backward()
        optimizer.step()
    save_file(model.state_dict(), "own_network.safetensors")


if __name__ == "__main__":
    main()
