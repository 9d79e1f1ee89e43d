"""CAD: component attribution for diffusion models (arXiv 2412.02542), in pure PyTorch.

Data flows one way: denoiser + conditioning -> trajectory -> objective -> attribution -> selection -> edit.
"""

__version__ = "0.1.0"
