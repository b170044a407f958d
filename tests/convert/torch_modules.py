"""Modules of PyTorch, in a file of their own: errors name its lines."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional


class Pixels(nn.Module):
    """Images of 0..16 to normalised numbers with a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(0.3))

    def forward(self, images):
        return ((images / 16 - self.mean) / 0.38).unsqueeze(1)


class Pooled(nn.Module):
    """Several inputs and outputs; one argument may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 8)
        self.head = nn.Linear(8, 2)

    def forward(self, tokens, weights, scale=None):
        pooled = (self.embedding(tokens) * weights[..., None]).sum(1)
        if scale is not None:
            pooled = pooled * scale
        return {"logits": self.head(pooled), "parts": (pooled, pooled.argmax(-1)), "nothing": None, "same": tokens}


class Pair(NamedTuple):
    low: torch.Tensor
    high: torch.Tensor


class Bounds(nn.Module):
    def forward(self, x):
        return Pair(x.min(-1).values, x.max(-1).values)


class OfOneDict(nn.Module):
    def forward(self, batch):
        return batch["a"] - batch["b"]


class Branches(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x * 2
        return x


class InNumpy(nn.Module):
    def forward(self, x):
        return torch.from_numpy(x.numpy() * 2)


class FourRows(nn.Module):
    def forward(self, x):
        return x.reshape(4, 2, 4)


class AlwaysDrops(nn.Module):
    def forward(self, x):
        return functional.dropout(x, 0.5)


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand_like(x)


class Counts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, x):
        self.calls += 1
        return x + self.calls


class Eigenvalues(nn.Module):
    def forward(self, x):
        return torch.linalg.eigvals(x.reshape(-1, 2, 4) @ x.reshape(-1, 4, 2)).real


class Deep(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(8, 8), inner)

    def forward(self, x):
        return self.first(x)


class ANumber(nn.Module):
    def forward(self, x):
        return x, 3


class Sparse(nn.Module):
    def forward(self, x):
        return x.to_sparse()


class Step(nn.Module):
    """One step of training, by hand: its gradients are what exporters get wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))

    def forward(self, x, y):
        weights = {name: weight.detach() for name, weight in self.net.named_parameters()}
        gradients, loss = torch.func.grad_and_value(self.loss)(weights, x, y)
        return {"loss": loss} | {
            name.replace(".", "_"): weight - 0.1 * gradients[name] for name, weight in weights.items()
        }

    def loss(self, weights, x, y):
        return functional.cross_entropy(torch.func.functional_call(self.net, weights, (x,)), y)
