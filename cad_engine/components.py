"""The components of a UNet that can be attributed and ablated: single weights of chosen groups of linear layers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .errors import CadError

GROUPS = {
    "ff": "feed-forward layers of the transformer blocks (the paper's choice)",
    "self_attention": "query, key, value and output of self-attention",
    "cross_attention": "query, key, value and output of cross-attention",
    "cross_attention_kv": "key and value of cross-attention, through which alone the prompt comes in",
    "attention": "self- and cross-attention",
    "linear": "every linear layer, time embedding and projections included",
}


def _belongs(name: str, group: str) -> bool:
    parts = name.split(".")
    if group == "ff":
        return "ff" in parts
    if group == "self_attention":
        return "attn1" in parts
    if group == "cross_attention":
        return "attn2" in parts
    if group == "cross_attention_kv":
        return "attn2" in parts and ("to_k" in parts or "to_v" in parts)
    if group == "attention":
        return "attn1" in parts or "attn2" in parts
    return True


def choose_layers(names: Iterable[str], groups: Sequence[str]) -> list[str]:
    """The linear layers among `names` that belong to any of `groups` (see GROUPS), in the order of `names`.

    Raises CadError for a group that does not exist, or when nothing is left.
    """
    names = list(names)
    for group in groups:
        if group not in GROUPS:
            raise CadError(f"components must be among {', '.join(GROUPS)}, got {group!r}")
    chosen = [name for name in names if any(_belongs(name, group) for group in groups)]
    if not chosen:
        raise CadError(f"none of this model's {len(names)} linear layers belongs to the components {', '.join(groups) or '(none)'}")
    return chosen
