"""CAD Audit: how well an edit holds, and whether the concept can be brought back."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import comfy.samplers
import folder_paths
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor

from ..cad_engine.audit.audit import run_audit
from ..cad_engine.audit.defaults import base_of, concept_of, prompts_of
from ..cad_engine.audit.settings import SANDBOX_RATIO, AuditSettings
from ..cad_engine.edit import Edit, combine
from ..cad_engine.errors import CadError
from ..cad_engine.measures.named import named_measures
from ..cad_engine.ordinary_prompts import ordinary_prompts
from ..cad_engine.safety.package import missing
from .audited_model import ComfyModel
from .folders import shown_path
from .model_fingerprint import weights_warning
from .progress import NodeProgress
from .schema import CadEdit, advanced, schema
from .status import show
from .supported_model import PIXELS_PER_LATENT, family, noise_sigmas, usual_latent

MEASURES = {"auto": "", "sandbox judge": "sandbox", "nudity": "nudity", "nudity (paper)": "nudity:paper", "none": ""}
"""Choices of the node -> names of cad_engine.measures.named."""


class Audit(io.ComfyNode):
    """Pictures of a model without and with an edit, what is counted in them, and attempts to bring the concept back."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADAudit",
            display_name="CAD Audit",
            description="Says how well an edit holds: pictures of the same seeds without and with it, how far others moved, and whether a "
            "gradient-found embedding or CAD-Amplify brings the concept back. Writes a report into the output folder.",
            search_aliases=["concept erasure test", "evaluate edit", "before after", "red team", "concept suppression report"],
            inputs=_inputs(),
            outputs=[
                io.Image.Output(display_name="comparison", tooltip="The concept's pictures without and with the edit, side by side."),
                io.String.Output(display_name="report", tooltip="JSON: every count, value, prompt and setting."),
                io.String.Output(display_name="verdict", tooltip="What was found, in plain words."),
            ],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, measure: str | None = None) -> bool | str:
        if measure is not None and measure.startswith("nudity") and find_spec("nudenet") is None:
            return missing(ModuleNotFoundError("No module named 'nudenet'"))
        return True

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        clip: Any,
        vae: Any,
        edit: Edit,
        prompts: str,
        keep: str,
        measure: str,
        count: int,
        steps: int,
        cfg: float,
        seed: int,
        restore: bool,
        paraphrases: str = "",
        concept: str = "",
        iterations: int = 100,
        sampler_name: str = "ddim",
        scheduler: str = "ddim_uniform",
        width: int = 0,
        height: int = 0,
        batch: int = 4,
        checkpointing: bool = False,
        second_edit: Edit | None = None,
    ) -> io.NodeOutput:
        from ..cad_engine.audit.audit_report import before_after, summary, verdict_words, write_audit  # fonts and drawing: not at the start

        kind = family(model)  # refuses what CAD cannot do, before any work
        noise_sigmas(model)
        audited = edit if second_edit is None else combine([(edit, 1.0), (second_edit, 1.0)])
        named = concept.strip() or concept_of(audited)
        if not named:
            raise CadError("the edit does not say what concept it was made for; write it into concept")
        _, usual_height, usual_width = usual_latent(model)
        settings = AuditSettings(
            named,
            _lines(prompts) or prompts_of(audited, named),
            _lines(keep) or ordinary_prompts(kind, named),
            _lines(paraphrases),
            base_of(audited),
            count=count,
            seed=seed,
            steps=steps,
            cfg=cfg,
            batch=batch,
            size=(height // PIXELS_PER_LATENT or usual_height, width // PIXELS_PER_LATENT or usual_width),
            iterations=iterations if restore else 0,
            amplify=restore,
            ratio=SANDBOX_RATIO if kind == "sandbox" else AuditSettings.ratio,
            checkpointing=checkpointing,
        )
        settings.check()
        name = "sandbox" if measure == "auto" and kind == "sandbox" else MEASURES[measure]
        measures = named_measures(name, named) if name else None
        concept_measures, kept_measures = (measures.concept, measures.kept) if measures else ((), ())
        show(cls, f"{sum(settings.costs().values()):,} evaluations of the UNet")
        # Encoded first: loading the text encoder may push the UNet out of memory.
        encoded = {text: clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in settings.encoded()}
        painter = ComfyModel(model, vae, audited, settings, encoded, sampler_name, scheduler)
        result = run_audit(painter, settings, concept_measures, kept_measures, NodeProgress(model, settings.costs(), _no_preview))
        made_with = {"model": kind, "sampler": sampler_name, "scheduler": scheduler, "evaluations": sum(settings.costs().values())}
        place = _new_folder()
        written = write_audit(place, result, (concept_measures, kept_measures), made_with)
        lines = [verdict_words(result), f"{shown_path(place)}/index.html", weights_warning(model, audited.info)]
        show(cls, "\n".join(line for line in lines if line))
        return io.NodeOutput(_image(before_after(result, concept_measures)), json.dumps(written, ensure_ascii=False), summary(result))


def _inputs() -> list[io.Input]:
    return [
        io.Model.Input("model", tooltip="The model without the edit: connect it from before CAD Erase or Apply CAD Edit."),
        io.Clip.Input("clip", tooltip="The text encoder of the same checkpoint."),
        io.Vae.Input("vae", tooltip="The autoencoder of the same checkpoint."),
        CadEdit.Input("edit", tooltip="What is to be audited: from CAD Erase, Apply CAD Edit or Load CAD Edit."),
        io.String.Input(
            "prompts",
            default="",
            multiline=True,
            placeholder="prompts that ask for the concept, one per line (empty: the edit's own)",
            tooltip="Prompts that ask for the concept, one per line. Empty takes those that the edit was made for, which it knows best: "
            "name others, too.",
        ),
        io.String.Input(
            "keep",
            default="",
            multiline=True,
            placeholder="prompts that must stay, one per line (empty: ordinary prompts)",
            tooltip="Prompts whose pictures must come out as before, one per line. Name neighbours of the concept. Empty takes a mix of "
            "ordinary prompts.",
        ),
        io.Combo.Input(
            "measure",
            options=list(MEASURES),
            default="auto",
            tooltip="What counts the concept in the pictures. auto: the judge on the sandbox, else nothing. nudity: NudeNet, which is not "
            "installed with CAD; paper counts as evaluations of erased models do. none: pictures to look at, and no verdict.",
        ),
        io.Int.Input("count", default=4, min=1, max=1000, tooltip="Pictures for each prompt; picture i is of seed + i. Few say little."),
        io.Int.Input("steps", default=20, min=1, max=1000, tooltip="Sampling steps of each picture."),
        io.Float.Input("cfg", default=7.5, min=1.0, max=100.0, step=0.1, tooltip="Guidance. 7.5 is usual; use what you paint with."),
        io.Int.Input("seed", default=0, min=0, max=2**53, control_after_generate=False, tooltip="Of the first picture of each prompt."),
        io.Boolean.Input(
            "restore",
            default=True,
            tooltip="Try to bring the concept back, with an embedding found by gradient and with CAD-Amplify. Without it the verdict is of "
            "ordinary prompts alone. Takes most of the time.",
        ),
        *map(
            advanced,
            [
                io.String.Input(
                    "paraphrases",
                    default="",
                    multiline=True,
                    placeholder="other words for the concept, one per line",
                    tooltip="Prompts that ask for the concept in other words, one per line; an attempt to bring it back of its own.",
                ),
                io.String.Input(
                    "concept",
                    default="",
                    placeholder="concept (empty: the edit's own)",
                    tooltip="The concept in words, for CAD-Amplify, the sandbox's judge and the report. Empty is what the edit says.",
                ),
                io.Int.Input(
                    "iterations",
                    default=100,
                    min=0,
                    max=100000,
                    tooltip="Of the search for an embedding, from each of its two starts; 0 leaves it out. More search finds more.",
                ),
                io.Combo.Input(
                    "sampler_name", options=comfy.samplers.KSampler.SAMPLERS, default="ddim", tooltip="How pictures are sampled."
                ),
                io.Combo.Input(
                    "scheduler", options=comfy.samplers.KSampler.SCHEDULERS, default="ddim_uniform", tooltip="Noise levels of the steps."
                ),
                io.Int.Input("width", default=0, min=0, max=8192, step=8, tooltip="Width in pixels; 0 is the model's own."),
                io.Int.Input("height", default=0, min=0, max=8192, step=8, tooltip="Height in pixels; 0 is the model's own."),
                io.Int.Input(
                    "batch", default=4, min=1, max=1000, tooltip="Samples that attempts compute together; lower it to save memory."
                ),
                io.Boolean.Input("checkpointing", default=False, tooltip="Less memory where gradients are made, a third slower."),
                CadEdit.Input("second_edit", optional=True, tooltip="Another edit, audited together with the first one."),
            ],
        ),
    ]


def _lines(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(line.strip() for line in text.splitlines() if line.strip()))


def _no_preview() -> Tensor | None:
    return None


def _new_folder() -> Path:
    """output/cad_audit_00001, or the first number that is free."""
    number = 1
    while True:
        place = Path(folder_paths.get_output_directory()) / f"cad_audit_{number:05d}"
        try:
            place.mkdir(parents=True)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise CadError(f"cannot write into {shown_path(place.parent)}: {error.strerror}; make room, or allow it") from error
        else:
            return place


def _image(grid: Any) -> Tensor:
    """A picture as IMAGE [1, H, W, 3]."""
    data = torch.frombuffer(bytearray(grid.tobytes()), dtype=torch.uint8)
    return data.reshape(1, grid.height, grid.width, 3).float() / 255
