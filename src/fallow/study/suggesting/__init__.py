"""Which images should be labeled next?"""

from fallow.study.suggesting.cover import Picked, pick
from fallow.study.suggesting.suggest import Chosen, Pool, choose, look, tell

__all__ = ["Chosen", "Picked", "Pool", "choose", "look", "pick", "tell"]
