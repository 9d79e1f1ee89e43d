"""Run by ComfyUI's own Python: the vocabularies that the pack finds in text encoders of every family.

Usage: vocabulary.py FOLDER. Written there are `answer.json`, case -> {"words", "near"} (of some words, nearest first, with their
closeness), or null where there is none; and `embeddings.safetensors`, case -> the token embeddings, but for the sandbox's.
"""

# ruff: noqa: E402 - ComfyUI reads its command line when it is imported.

import functools
import json
import sys
from pathlib import Path
from typing import Any

FOLDER = Path(sys.argv[1])

import pack  # isort: skip
import comfy.sd
import comfy.sd1_clip
import comfy.sdxl_clip
import comfy.supported_models_base
import comfy.text_encoders.sd2_clip
import torch
from safetensors.torch import save_file

sandbox_model = pack.part("nodes.sandbox_model")
vocabulary = pack.part("nodes.vocabulary").vocabulary

ROWS, WIDTH = 49408, 16
CONFIG = {
    "num_hidden_layers": 1,
    "hidden_size": WIDTH,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": ROWS - 1,
}
TokenizerL, TokenizerH, TokenizerXL = comfy.sd1_clip.SD1Tokenizer, comfy.text_encoders.sd2_clip.SD2Tokenizer, comfy.sdxl_clip.SDXLTokenizer


class TokenizerOther(comfy.sd1_clip.SD1Tokenizer):
    """By a name that no Stable Diffusion has."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, name="other")


class Encoders(torch.nn.Module):
    """Text encoders in the places where ComfyUI has those of a family, of one layer and random numbers."""

    def __init__(self, names: tuple[str, ...], device: torch.device, dtype: torch.dtype, model_options: dict[str, Any]) -> None:
        super().__init__()
        for seed, name in enumerate(names):
            encoder = comfy.sd1_clip.SDClipModel(device=device, dtype=dtype, textmodel_json_config=CONFIG, model_options=model_options)
            generator = torch.Generator().manual_seed(seed)
            weight = encoder.transformer.get_input_embeddings().weight
            weight.data.copy_(torch.randn(ROWS, WIDTH, generator=generator))
            setattr(self, name, encoder)
        self.dtypes = {dtype}


def clip(tokenizer: Any, names: tuple[str, ...], dtype: torch.dtype) -> Any:
    target = comfy.supported_models_base.ClipTarget(tokenizer, functools.partial(Encoders, names))
    if "state_dict" in comfy.sd.CLIP.__init__.__code__.co_varnames:
        return comfy.sd.CLIP(target, model_options={"dtype": dtype}, state_dict=[])
    return comfy.sd.CLIP(target, model_options={"dtype": dtype})


CASES = {
    "sd1": (TokenizerL, ("clip_l",), torch.float32),
    "sd1 fp16": (TokenizerL, ("clip_l",), torch.float16),
    "sd1 fp8": (TokenizerL, ("clip_l",), torch.float8_e4m3fn),
    "sd2": (TokenizerH, ("clip_h",), torch.float32),
    "sdxl": (TokenizerXL, ("clip_l", "clip_g"), torch.float16),
    "sdxl refiner": (TokenizerXL, ("clip_g",), torch.float16),
    "another build": (TokenizerOther, ("other",), torch.float32),
}


def told(found: Any, asked: list[str]) -> dict[str, Any] | None:
    return None if found is None else {"words": found.words, "near": {word: found.near(word) for word in asked}}


@torch.inference_mode()  # as in a node
def main() -> None:
    asked = json.loads((FOLDER / "asked.json").read_text(encoding="utf-8"))
    answer = {"sandbox": told(vocabulary(sandbox_model.load_clip()), asked["sandbox"])}
    embeddings = {}
    for name, (tokenizer, parts, dtype) in CASES.items():
        made = clip(tokenizer, parts, dtype)
        answer[name] = told(vocabulary(made), asked["others"])
        embeddings[name] = getattr(made.cond_stage_model, parts[0]).transformer.get_input_embeddings().weight.float().contiguous()
        if name == "sd1":  # a tokenizer with more words than the model has embeddings
            made.cond_stage_model.clip_l.transformer.set_input_embeddings(torch.nn.Embedding(100, WIDTH))
            answer["too few embeddings"] = told(vocabulary(made), asked["others"])
    save_file(embeddings, FOLDER / "embeddings.safetensors")
    (FOLDER / "answer.json").write_text(json.dumps(answer), encoding="utf-8")


main()
