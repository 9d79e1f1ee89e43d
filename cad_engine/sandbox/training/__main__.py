"""Train the sandbox from nothing: `python -m cad_engine.sandbox.training --work DIR`.

Draws the pictures, trains autoencoder, judge and UNet with text model one after the other, and writes the two files that are
shipped. A stage whose result lies in DIR already is not done again, so an interrupted training goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from diffusers import AutoencoderKL
from safetensors.torch import save_file

from .. import tokenizer as sandbox_tokenizer
from ..architecture import VAE_CONFIG
from ..judge import Judge, JudgeNet
from .data import drawn_once
from .judge import judge_accuracy, train_judge
from .save import save_sandbox
from .unet import Learner, encode_latents, settle_rare_shape, train_unet
from .vae import train_vae


def main() -> None:
    """Run the stages that are not done yet."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for the stages' results, the log and the finished files")
    parser.add_argument("--vae-steps", type=int, default=1500)
    parser.add_argument("--judge-steps", type=int, default=1500)
    parser.add_argument("--unet-steps", type=int, default=1800)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--no-compile", action="store_true", help="train the UNet without torch.compile (slower, needs no C++ compiler)")
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(options.threads)
    began = time.monotonic()

    def log(message: str) -> None:
        line = f"{time.monotonic() - began:6.0f} s  {message}"
        print(line, flush=True)
        with (options.work / "training.log").open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    balanced = drawn_once(options.work / "balanced.pt", 12000, seed=2)
    log("drew 12000 balanced pictures")
    vae = AutoencoderKL(**VAE_CONFIG)
    if (options.work / "vae.pt").exists():
        vae.load_state_dict(torch.load(options.work / "vae.pt", weights_only=True))
    else:
        vae = train_vae(balanced, options.vae_steps, batch=8, seed=1, log=log)
        torch.save(vae.state_dict(), options.work / "vae.pt")
    vae.eval().requires_grad_(False)

    net = JudgeNet()
    if (options.work / "judge.pt").exists():
        net.load_state_dict(torch.load(options.work / "judge.pt", weights_only=True))
    else:
        net = train_judge(balanced, vae, options.judge_steps, batch=64, seed=2, log=log)
        torch.save(net.state_dict(), options.work / "judge.pt")
    net.eval()
    held_out = drawn_once(options.work / "held_out.pt", 2000, seed=3)
    log(f"judge on held-out pictures: {json.dumps(judge_accuracy(net, held_out, vae))}")

    pictures = drawn_once(options.work / "pictures.pt", 24000, seed=1, rare_share=0.01)
    log("drew 24000 pictures with few of the rare shape")
    latents = encode_latents(vae, pictures)
    log("encoded them")
    vocab, merges = sandbox_tokenizer.vocabulary()
    with TemporaryDirectory() as folder:
        sandbox_tokenizer.write(Path(folder), vocab, merges)
        tokenizer = sandbox_tokenizer.load(Path(folder))
    learner = Learner(tokenizer, vae, Judge(net))
    if (options.work / "unet.pt").exists():
        learner.average.load_state_dict(torch.load(options.work / "unet.pt", weights_only=True))
    else:
        train_unet(learner, pictures, latents, options.unet_steps, batch=64, seed=3, log=log, compile=not options.no_compile)
        torch.save(learner.average.state_dict(), options.work / "unet.pt")
    settle_rare_shape(learner, pictures, latents, batch=64, seed=4, log=log)
    save_sandbox(options.work / "sandbox.safetensors", learner.average["unet"], vae, learner.average["text"], vocab, merges)
    save_file({name: value.half() for name, value in net.state_dict().items()}, options.work / "judge.safetensors")
    log("done; quality: python -m cad_engine.sandbox.quality")


if __name__ == "__main__":
    main()
