"""One concept attributed by several processes (paper, eq. 6): each samples a share of the pictures, and the scores are added up.

J is a mean over samples, and so is its gradient, and what a sample is depends on its number alone (see trajectory.antithetic_noise). So the
sum over processes is that of one process but for the order of summation.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist

from .affordable import affordable
from .attribution import Attribution, plain_attribution
from .components import choose_layers
from .concept import attribution_info, concept_scores_while_sampling
from .concept_settings import ConceptSettings
from .denoiser import Denoiser
from .errors import CadError, first_line
from .footprint import Footprint
from .processes import Processes
from .progress import Progress, silent
from .step_down import stepping_down

PATIENCE = timedelta(days=1)
"""How long a sum may wait for another process: torchrun ends the run when one dies, so nothing is gained by giving up before."""


def share(trajectories: int, batch: int, rank: int, size: int) -> range:
    """Which of `trajectories` process `rank` of `size` samples.

    Shares are made of whole batches, as positive and negative mass by timestep are summed by batch (see GradientAccumulator), and differ by
    one batch at most.
    """
    batches = -(-trajectories // batch)
    first, last = batches * rank // size, batches * (rank + 1) // size
    return range(min(first * batch, trajectories), min(last * batch, trajectories))


def at_work(trajectories: int, batch: int, size: int) -> int:
    """How many of `size` processes have trajectories to sample."""
    return min(size, -(-trajectories // batch))


def check_shared(settings: ConceptSettings) -> None:
    """Raise CadError unless several processes can share `settings`' work: erasing, by the paper's score."""
    if settings.objective != "erase" or settings.kept_prompts or settings.rounds:
        method = "rounds" if settings.rounds else "per harm" if settings.kept_prompts else "paper"
        raise CadError(
            f"several processes share one concept's pictures with --method paper --objective erase alone, and this is {method} to "
            f"{settings.objective}; start it without torchrun, or give torchrun a list of concepts: cad attribute-list"
        )


def attribute_shared(
    denoiser: Denoiser,
    settings: ConceptSettings,
    processes: Processes,
    progress: Progress = silent,
    info: Mapping[str, Any] | None = None,
) -> Attribution | None:
    """concept.attribute_concept in all of `processes` together; the result in the first of them, None in the others.

    `progress` counts the steps that all have done. Raises CadError for settings that cannot be shared, as attribute_concept does, and when
    another process is gone.
    """
    settings.check()
    check_shared(settings)
    processes = processes.next_work()
    names = choose_layers(denoiser.layers, settings.components)
    own = share(settings.trajectories, settings.batch, processes.rank, processes.size)
    everything = settings.trajectories * settings.steps
    counted = 0

    def ours(stage: str, done: int, total: int) -> None:
        nonlocal counted
        now = len(own) * settings.steps * done // total if total else 0  # fewer than before where memory ran out and it begins anew
        by_all = processes.add("steps", now - counted)
        counted = now
        progress(stage, by_all, everything)

    def sampled(footprint: Footprint) -> tuple[ConceptSettings, dict[str, Tensor], dict[str, Tensor], list[int]]:
        fitting = replace(settings, batch=footprint.batch, checkpointing=footprint.checkpointing)
        return fitting, *concept_scores_while_sampling(denoiser, fitting, names, ours, own, footprint.sums_on)

    # GPUs have memory of their own each; of the host's, all take a part.
    begin = affordable(denoiser, settings, sharing=1 if denoiser.device.type == "cuda" else processes.size)
    fitting, scores, masses, timesteps = stepping_down(sampled, begin, host=denoiser.device.type != "cpu")
    processes.add("sampled")
    processes.wait_for("sampled", processes.size, lambda: progress("attribution", processes.add("steps", 0), everything))
    progress("attribution", everything, everything)
    with _group(processes, denoiser.device):
        for tensors in (scores, masses):
            for name in names:
                _sum(tensors[name], denoiser.device)
    if not processes.first:
        return None
    described = {**attribution_info(denoiser, fitting), **(info or {})}
    return plain_attribution(denoiser, scores, masses, timesteps, described, settings.keep_ratio)


@contextmanager
def _group(processes: Processes, device: torch.device) -> Iterator[None]:
    """All processes connected: by NCCL where they compute on GPUs, else by Gloo. Nothing is left open when the block ends well."""
    if processes.size == 1:
        yield
        return
    try:
        if _nccl(device):
            torch.cuda.set_device(device)
        backend, store = "nccl" if _nccl(device) else "gloo", dist.PrefixStore(f"{processes.name}sum", processes.store)  # type: ignore[arg-type]
        dist.init_process_group(backend, store=store, rank=processes.rank, world_size=processes.size, timeout=PATIENCE)
        yield
    except RuntimeError as error:
        time.sleep(2)  # torchrun's signal, which tells the true cause, comes about now
        raise CadError(f"the processes could not add up their scores ({first_line(error)}); start the same command again") from error
    processes.add("added up")
    processes.wait_for("added up", processes.size)  # who leaves first would break the others' connections
    dist.destroy_process_group()


def _sum(tensor: Tensor, device: torch.device) -> None:
    """Replace `tensor` by the sum over all processes, where there are several."""
    if not dist.is_initialized():
        return
    there = tensor.to(device if _nccl(device) else "cpu").contiguous()
    dist.all_reduce(there)
    if there is not tensor:
        tensor.copy_(there)


def _nccl(device: torch.device) -> bool:
    return device.type == "cuda" and dist.is_nccl_available()
