"""CLIP's byte-pair encoding: its alphabet, its vocabulary order, and OpenAI's tokenizer from the merges shipped beside this file.

`clip_merges.txt.gz` holds the 48,894 merges of OpenAI's CLIP (MIT licence, Copyright (c) 2021 OpenAI) that its 49,408 tokens
come from. Every Stable Diffusion checkpoint uses this tokenizer, and none of the single files has it inside.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from transformers import CLIPTokenizer

START, END = "<|startoftext|>", "<|endoftext|>"
ZERO_PAD = "<|pad|>"
CLIP_LENGTH = 77  # tokens, start and end included
MERGES_FILE = Path(__file__).with_name("clip_merges.txt.gz")


def byte_letters() -> list[str]:
    """The 256 printable letters that CLIP's (GPT-2's) byte-level encoding writes for the bytes 0..255, in vocabulary order."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in printable}
    for extra, byte in enumerate(byte for byte in range(256) if byte not in letters):
        letters[byte] = chr(256 + extra)
    return [letters[byte] for byte in [*printable, *(b for b in range(256) if b not in printable)]]


def build_vocab(merges: Sequence[tuple[str, str]]) -> dict[str, int]:
    """{token: id} of `merges` in CLIP's order: letters, letters that end a word, joined pairs, start, end."""
    letters = byte_letters()
    tokens = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), START, END]
    return {token: index for index, token in enumerate(dict.fromkeys(tokens))}


def build_tokenizer(
    vocab: dict[str, int], merges: Sequence[tuple[str, str]], length: int = CLIP_LENGTH, zero_pad: bool = False
) -> CLIPTokenizer:
    """A tokenizer that pads to `length` with the end token, or with id 0 when `zero_pad`, as OpenCLIP's text models were trained.

    Id 0 is "!", but naming "!" the padding would make every "!" of a prompt id 0, also where it ends a word and is another
    token; so the padding gets a name of its own for the same id. (Such a tokenizer cannot be written to files and read again.)
    """
    if zero_pad:
        vocab = {**vocab, ZERO_PAD: 0}
    return CLIPTokenizer(vocab=vocab, merges=list(merges), pad_token=ZERO_PAD if zero_pad else END, model_max_length=length)


@cache
def clip_merges() -> tuple[tuple[str, str], ...]:
    """OpenAI CLIP's merges, the strongest first."""
    with gzip.open(MERGES_FILE, "rt", encoding="utf-8") as lines:
        return tuple((first, second) for first, second in (line.split() for line in lines))


def clip_tokenizer(zero_pad: bool = False) -> CLIPTokenizer:
    """OpenAI CLIP's tokenizer of 49,408 tokens; see build_tokenizer for `zero_pad`."""
    merges = clip_merges()
    return build_tokenizer(build_vocab(merges), merges, zero_pad=zero_pad)
