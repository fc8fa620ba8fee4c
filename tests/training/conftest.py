"""Steady tests on a busy machine: one thread for torch, and no stopwatch on generated examples.

The tensors here are tiny, and threads that wait for each other cost more than they compute.
"""

import pytest
import torch
from hypothesis import HealthCheck, settings

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
