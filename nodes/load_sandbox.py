"""Load CAD Sandbox: the embedded model, for trying everything out on any computer with no download."""

from __future__ import annotations

from comfy_api.latest import io

from .sandbox_model import load_clip, load_unet, load_vae
from .schema import schema


class LoadSandbox(io.ComfyNode):
    """Loads the checkpoint that is shipped with the pack, a small Stable Diffusion 1.x of 64 x 64 pixels."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="CADLoadSandbox",
            display_name="Load CAD Sandbox",
            description=(
                "Loads the small model that is shipped with CAD: no download, seconds on a CPU. It paints 64 x 64 pictures of simple "
                'shapes, such as "a red star in dotted style". Shapes: circle, square, triangle, star, heart, cross, ring, crescent, '
                "arrow, hexagon. Colours: red, green, blue, yellow, purple, black. Styles: plain, outline, dotted, striped, blurry, "
                "negative. Use it with CLIP Text Encode, Empty Latent Image (64 x 64), KSampler (15 steps, cfg 3) and VAE Decode."
            ),
            search_aliases=["sandbox", "demo model", "test model", "tiny stable diffusion", "checkpoint", "load cad"],
            inputs=[],
            outputs=[
                io.Model.Output(tooltip="The sandbox's UNet. Connect it wherever a Stable Diffusion MODEL goes, such as CAD Attribute."),
                io.Clip.Output(tooltip="The sandbox's text encoder, which knows the words of its small world. For CLIP Text Encode."),
                io.Vae.Output(tooltip="The sandbox's autoencoder, between 64 x 64 pixels and 8 x 8 latents. For VAE Decode and Encode."),
            ],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(load_unet(), load_clip(), load_vae())
