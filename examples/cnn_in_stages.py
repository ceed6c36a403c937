"""A convolutional network of one's own, pruned to a tenth in stages: `python cnn_in_stages.py`.

It trains a small residual network with batch norms, prunes it by magnitude and by `chita`, and
loads the result with PyTorch alone.
"""

import torch
from safetensors.torch import load_file
from torch import nn

import chita
from chita.data.digits import digits


class Block(nn.Module):
    """Two convolutions around which the input goes."""

    def __init__(self, channels):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)

    def forward(self, x):
        """The same shape."""
        return torch.relu(x + self.bn2(self.conv2(torch.relu(self.bn1(self.conv1(x))))))


def network():
    """One channel of 8 x 8 pixels to ten classes."""
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, stride=2), nn.ReLU(), Block(16), Block(16),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def trained(inputs, targets, epochs=12):
    """The network, trained on these samples."""
    torch.manual_seed(0)
    model = network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.01)
    rate = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, epochs)
    for _ in range(epochs):
        for batch in torch.randperm(len(inputs)).split(128):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
            optimizer.step()
        rate.step()
    return model.eval()


def main():
    """Train, prune twice, save and load."""
    calibration, evaluation = digits()
    model = trained(*next(calibration.batches(len(calibration))))
    print("dense:     ", chita.evaluate(model, evaluation))
    by_magnitude = chita.prune(model, calibration, sparsity=0.9, solver="magnitude")
    print("magnitude: ", chita.evaluate(by_magnitude.model, evaluation))
    fisher = chita.Fisher(samples=300)  # gradients that each stage collects
    result = chita.prune(model, calibration, sparsity=0.9, stages=5, fisher=fisher)
    print("chita:     ", chita.evaluate(result.model, evaluation))
    print(result.record.nnz, "of", result.record.prunable, "weights kept")

    result.save("cnn-pruned", force=True)
    again = network()
    again.load_state_dict(load_file("cnn-pruned/model.safetensors"))
    print("loaded:    ", chita.evaluate(again, evaluation))


if __name__ == "__main__":
    main()
