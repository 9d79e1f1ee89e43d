"""How much memory is free where a model computes."""

from __future__ import annotations

import psutil
import torch


def free_memory(device: torch.device) -> int | None:
    """Bytes that tensors on `device` can still take, or None where nobody can say.

    On a GPU that is what the driver has left and what PyTorch has reserved and does not use; on the CPU, what the system can give without
    swapping.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return int(free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device))
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    if device.type == "cpu":
        return int(psutil.virtual_memory().available)
    return None
