"""How good are features? Protocols that judge a backbone on labeled images, and two backbones side by side."""

from fallow.study.probing.job import Probing
from fallow.study.probing.subject import Named, trained_folder

__all__ = ["Named", "Probing", "trained_folder"]
