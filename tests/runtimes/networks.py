"""Networks with zeros, small and with all that converters change."""

import torch
from torch import nn


def zeroed(network, share=0.8):
    """The network with that share of every weight of two dimensions and more set to zero."""
    for weight in network.parameters():
        if weight.ndim > 1:
            places = torch.randperm(weight.numel())[: round(share * weight.numel())]
            weight.detach().view(-1)[places] = 0
    return network.eval()


def convolutional(share=0.8):
    """A strided, a grouped and a 1 x 1 convolution with batch norms, then a linear layer."""
    network = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, groups=8),
        nn.Conv2d(8, 16, 1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 5),
    )
    for norm in network:
        if isinstance(norm, nn.BatchNorm2d):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight)
    return zeroed(network, share)


def perceptron(width=64, share=0.9):
    """Three linear layers."""
    layers = (nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU())
    return zeroed(nn.Sequential(*layers, nn.Linear(width, 10)), share)


class Keywords(nn.Module):
    """Takes two tensors by name, and returns two in a dict."""

    def __init__(self):
        super().__init__()
        self.embed = nn.Embedding(20, 12)
        self.body = nn.Linear(12, 12)
        zeroed(self.body)

    def forward(self, input_ids, attention_mask):
        hidden = self.embed(input_ids) * attention_mask.unsqueeze(2)
        return {"hidden": self.body(hidden), "pooled": hidden.sum(1)}


def words(samples=2, length=6):
    """What `Keywords` takes."""
    ids = torch.randint(0, 20, (samples, length))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
