"""A model that comes back to the last bit after whatever a method did to it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from cad_engine.checkpoints.denoiser import DiffusersDenoiser
from cad_engine.trajectory import initial_noise


@torch.no_grad()
def weights_digest(denoiser: DiffusersDenoiser) -> str:
    """16 hexadecimal digits over every weight and buffer of the UNet and of the text encoders, bit for bit; the same on every machine."""
    digest = hashlib.sha256()
    for part in ("unet", "text_encoder", "text_encoder_2"):
        module = getattr(denoiser.pipeline, part, None)
        for name, tensor in sorted(module.state_dict().items()) if module is not None else ():
            digest.update(f"{part}.{name}{tensor.dtype}{list(tensor.shape)}".encode())
            digest.update(_bytes(tensor))
    return digest.hexdigest()[:16]


def model_digest(denoiser: DiffusersDenoiser) -> str:
    """16 hexadecimal digits over the `weights_digest` and one prediction; of use within one process and number of threads.

    The prediction also tells of what is not a weight: a hook that was left behind, another mode.
    """
    prediction = denoiser.eps(initial_noise(0, 1, denoiser.latent_shape), 500, denoiser.encode_prompt("a red circle"))
    return hashlib.sha256(weights_digest(denoiser).encode() + _bytes(prediction)).hexdigest()[:16]


def _bytes(tensor: Tensor) -> bytes:
    return tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes()


@contextmanager
def restored(denoiser: DiffusersDenoiser) -> Iterator[None]:
    """Inside the block anything may be done to the UNet's parameters; after it, however it ends, they are what they were.

    Parameters that were replaced by others are put back, gradients are dropped, and modes and `requires_grad` are as before.
    """
    modules = [(module, module.training) for module in denoiser.unet.modules()]
    parameters = [
        (module, name, parameter, parameter.detach().clone(), parameter.requires_grad)
        for module, _ in modules
        for name, parameter in module.named_parameters(recurse=False)
    ]
    buffers = [(module, name, buffer, buffer.clone()) for module, _ in modules for name, buffer in module.named_buffers(recurse=False)]
    try:
        yield
    finally:
        with torch.no_grad():
            for module, name, parameter, values, wanted in parameters:
                module._parameters[name] = parameter
                parameter.data.copy_(values)
                parameter.grad = None
                parameter.requires_grad_(wanted)
            for module, name, buffer, values in buffers:
                module._buffers[name] = buffer
                buffer.copy_(values)
        for module, training in modules:
            module.training = training


class ModelNotRestoredError(RuntimeError):
    """A method left something behind that `restored` could not take back."""


@contextmanager
def unchanged_after(denoiser: DiffusersDenoiser, what: str) -> Iterator[None]:
    """`restored`, and checked: ModelNotRestoredError naming `what` when the model's digest is another after the block.

    An exception of the block itself goes first.
    """
    before = model_digest(denoiser)
    with restored(denoiser):
        yield
    after = model_digest(denoiser)
    if after != before:
        raise ModelNotRestoredError(f"{what} left the model changed: its digest was {before} and is {after}; did it leave a hook behind?")
