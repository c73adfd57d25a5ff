"""Promises of the optimiser: one kernel for all parameters gives what updating one after the other gives."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from xmodal_cli.runs.fit import build_optimiser
from xmodal_cli.runs.settings import FitSettings


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_updates_are_those_of_the_plain_optimiser(name: str, memory_format: torch.memory_format) -> None:
    torch.manual_seed(0)
    fast = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(196, 5))
    fast.to(memory_format=memory_format)  # type: ignore[call-overload]
    plain, start = copy.deepcopy(fast), copy.deepcopy(fast)
    settings = FitSettings(iterations=1, batch_size=1, optimiser=name, lr=0.01, weight_decay=0.1, bias_lr=2.0)
    optimisers = [build_optimiser(module, settings) for module in (fast, plain)]
    for group in optimisers[1].param_groups:
        group.update(fused=False, foreach=False)
    for _ in range(4):
        images = torch.randn(6, 3, 9, 9).to(memory_format=memory_format)
        for module, optimiser in zip((fast, plain), optimisers, strict=True):
            optimiser.zero_grad(set_to_none=True)
            module(images).square().mean().backward()
            optimiser.step()
    for found, expected, before in zip(fast.parameters(), plain.parameters(), start.parameters(), strict=True):
        assert not torch.allclose(found, before, atol=1e-4)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)
