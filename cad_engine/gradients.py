"""Weight gradients of chosen linear layers, without asking autograd for any.

For the duration of a pass, the forwards of a UNet's leaf modules (Linear, Conv2d, GroupNorm, LayerNorm) are replaced by
autograd functions that save no weights: backward fetches the weight again. A target layer hands its input x and the gradient
g of its output to a sink, from which dJ/dW = g^T x. So it works on weights that cannot be saved for backward (inference
tensors), that are not resident, that are quantised or patched on the fly; gradients are of the *effective* weight.

Nothing before the first target layer enters the graph: a zero `anchor` that requires grad joins at each target layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.grad import conv2d_input
from torch.utils.checkpoint import checkpoint

from .denoiser import WeightAccess
from .heap import heap

Sink = Callable[[str, Tensor, Tensor], None]
"""sink(name, x [B, ..., in], g [B, ..., out]): a target layer's input and the gradient of its output, once a backward pass."""


@contextmanager
def resident_weight(module: nn.Module, like: Tensor) -> Iterator[tuple[Any, Any]]:
    """WeightAccess of plain modules: their own weight and bias, cast to the dtype and device of `like`."""
    weight, bias = module.weight, module.bias
    yield tuple(None if p is None else p.to(like.device, like.dtype) for p in (weight, bias))  # type: ignore[misc]


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, anchor: Tensor | None, module: nn.Module, access: WeightAccess, name: str | None, sink: Sink
    ) -> Tensor:
        ctx.module, ctx.access, ctx.name, ctx.sink = module, access, name, sink
        if name is not None:
            ctx.save_for_backward(x)
        with access(module, x) as (weight, bias):
            return F.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.name is not None:
            (x,) = ctx.saved_tensors
            ctx.sink(ctx.name, x, g)
        grad_x = None
        if ctx.needs_input_grad[0]:
            with ctx.access(ctx.module, g) as (weight, _):
                grad_x = g @ weight
        grad_anchor = g.new_zeros(()) if ctx.needs_input_grad[1] else None
        return grad_x, grad_anchor, None, None, None, None


class _Conv2d(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: Any, access: WeightAccess) -> Tensor:
        ctx.module, ctx.access, ctx.shape = module, access, x.shape
        with access(module, x) as (weight, bias):
            return F.conv2d(x, weight, bias, module.stride, module.padding, module.dilation, module.groups)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        module = ctx.module
        with ctx.access(module, g) as (weight, _):
            grad_x = conv2d_input(ctx.shape, weight, g, module.stride, module.padding, module.dilation, module.groups)
        return grad_x, None, None


class _GroupNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.GroupNorm, access: WeightAccess) -> Tensor:
        x = x.contiguous()
        batch, channels = x.shape[:2]
        size = x.numel() // (batch * channels)
        with access(module, x) as (weight, bias):
            out, mean, rstd = torch.native_group_norm(x, weight, bias, batch, channels, size, module.num_groups, module.eps)
        ctx.module, ctx.access = module, access
        ctx.save_for_backward(x, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd = ctx.saved_tensors
        batch, channels = x.shape[:2]
        size = x.numel() // (batch * channels)
        with ctx.access(ctx.module, g) as (weight, _):
            grad_x, _, _ = torch.ops.aten.native_group_norm_backward(
                g.contiguous(), x, mean, rstd, weight, batch, channels, size, ctx.module.num_groups, [True, False, False]
            )
        return grad_x, None, None


class _LayerNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, module: nn.LayerNorm, access: WeightAccess) -> Tensor:
        with access(module, x) as (weight, bias):
            out, mean, rstd = torch.native_layer_norm(x, module.normalized_shape, weight, bias, module.eps)
        ctx.module, ctx.access = module, access
        ctx.save_for_backward(x, mean, rstd)
        return out

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd = ctx.saved_tensors
        with ctx.access(ctx.module, g) as (weight, bias):
            grad_x, _, _ = torch.ops.aten.native_layer_norm_backward(
                g.contiguous(), x, ctx.module.normalized_shape, mean, rstd, weight, bias, [True, False, False]
            )
        return grad_x, None, None


def is_linear(module: nn.Module) -> bool:
    """Whether `module` multiplies by a weight [out, in]; by its attributes, as quantising loaders have Linears of their own."""
    return hasattr(module, "in_features") and hasattr(module, "out_features") and getattr(module, "weight", None) is not None


def _restore_forward(module: nn.Module, before: Callable[..., Any] | None) -> None:
    module.__dict__.pop("forward", None)
    if before is not None:
        module.forward = before


def _leaf_forward(module: nn.Module, access: WeightAccess, name: str | None, anchor: Tensor, sink: Sink) -> Callable[..., Tensor] | None:
    if is_linear(module):
        return lambda x, *_, **__: _Linear.apply(x, anchor if name is not None else None, module, access, name, sink)
    if isinstance(module, nn.Conv2d):
        if isinstance(module.padding, str) or module.padding_mode != "zeros":
            return None  # autograd's own forward; no Stable Diffusion UNet has such a convolution
        return lambda x, *_, **__: _Conv2d.apply(x, module, access)
    if isinstance(module, nn.GroupNorm):
        return lambda x, *_, **__: _GroupNorm.apply(x, module, access)
    if isinstance(module, nn.LayerNorm):
        return lambda x, *_, **__: _LayerNorm.apply(x, module, access)
    return None


def _recomputed(forward: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`forward`, which keeps nothing but its inputs and is computed again in backward."""

    def tidied(*args: Any, **kwargs: Any) -> Any:
        heap.tidy()
        return forward(*args, **kwargs)

    return checkpoint(tidied, *args, use_reentrant=False, **kwargs)


CHECKPOINTED_BLOCKS = ("BasicTransformerBlock", "ResnetBlock2D", "ResBlock")
"""Class names of the blocks whose activations are recomputed; diffusers' and the original implementation's."""


@contextmanager
def captured_gradients(
    unet: nn.Module, targets: Mapping[str, nn.Module], sink: Sink, access: WeightAccess = resident_weight, *, checkpointing: bool = False
) -> Iterator[Tensor]:
    """Inside the block, a backward pass through `unet` calls `sink` once for each module of `targets`; yields the anchor.

    Use `torch.autograd.grad(loss, anchor)`: unlike `loss.backward()` it touches no `.grad` of any parameter.

    Args:
        unet: the module whose leaf modules are replaced; left exactly as it was, also when the block raises.
        targets: linear layers of `unet` by name.
        sink: see Sink; g is of the dtype of the pass.
        access: how a leaf's effective weight is had, in forward and again in backward.
        checkpointing: recompute the activations of transformer and residual blocks in backward (less memory, one more forward).
    """
    names = {id(module): name for name, module in targets.items()}
    device = next((p.device for p in unet.parameters()), torch.device("cpu"))
    anchor = torch.zeros((), device=device, requires_grad=True)
    with ExitStack() as stack:
        for module in unet.modules():
            forward = _leaf_forward(module, access, names.get(id(module)), anchor, sink)
            if forward is None and checkpointing and type(module).__name__ in CHECKPOINTED_BLOCKS:
                forward = partial(_recomputed, module.forward)
            if forward is not None:
                # Registered before the change, so that an interrupt between the two cannot leave a module changed.
                stack.callback(_restore_forward, module, module.__dict__.get("forward"))
                module.forward = forward
        yield anchor
