"""One thread for torch in all training tests: the tensors are tiny, and threads that wait for each
other on a busy machine cost more than they compute.
"""

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)
