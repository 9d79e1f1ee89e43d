"""The sandbox's tokenizer: OpenAI CLIP's byte-pair encoding with a vocabulary of the sandbox's own few words.

It has CLIP's exact form (a vocab and a list of merges), so transformers' CLIPTokenizer, and with it ComfyUI, reads it; words
that it never saw are spelled out in bytes.
"""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

from transformers import CLIPTokenizer

from ..checkpoints.clip_tokenizer import END, START, build_vocab
from .captions import NEUTRAL_COLOUR, NEUTRAL_SHAPE, NEUTRAL_STYLE, PARAPHRASES

MAX_LENGTH = 24  # tokens, start and end included


def _join(spelling: list[str], pair: tuple[str, str]) -> list[str]:
    """`spelling` with every neighbouring `pair` made one token."""
    joined: list[str] = []
    for token in spelling:
        if joined and (joined[-1], token) == pair:
            joined[-1] += token
        else:
            joined.append(token)
    return joined


def vocabulary() -> tuple[dict[str, int], list[tuple[str, str]]]:
    """(vocab, merges) of the sandbox's tokenizer: each known word becomes one token."""
    words = {"a", "an", "in", "style", "picture", "of", "and", "photo", "the", "with"}
    words |= {NEUTRAL_SHAPE, NEUTRAL_COLOUR, NEUTRAL_STYLE}
    for first, second in PARAPHRASES.items():
        words |= {first, *second.replace("-", " ").split()}
    # Byte-pair training until every word is one token: the commonest neighbouring pair is joined first.
    spellings = [[*word[:-1], word[-1] + "</w>"] for word in sorted(words)]
    merges: list[tuple[str, str]] = []
    while any(len(spelling) > 1 for spelling in spellings):
        pairs = Counter(pair for spelling in spellings for pair in pairwise(spelling))
        pair = max(pairs, key=lambda candidate: (pairs[candidate], candidate))
        merges.append(pair)
        spellings = [_join(spelling, pair) for spelling in spellings]
    return build_vocab(merges), merges


def write(folder: Path, vocab: dict[str, int], merges: list[tuple[str, str]]) -> None:
    """Write the tokenizer as the files that CLIPTokenizer.from_pretrained reads."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(" ".join(pair) for pair in merges) + "\n", encoding="utf-8")
    special = {"bos_token": START, "eos_token": END, "unk_token": END, "pad_token": END}
    settings = {"tokenizer_class": "CLIPTokenizer", "model_max_length": MAX_LENGTH, **special}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")
    (folder / "special_tokens_map.json").write_text(json.dumps(special), encoding="utf-8")


def load(folder: Path) -> CLIPTokenizer:
    """The tokenizer that `write` put into `folder`."""
    return CLIPTokenizer.from_pretrained(str(folder))
