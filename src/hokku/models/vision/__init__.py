"""Turns the vision half of a checkpoint into an encoder of tiles."""

from hokku.models.vision.config import VisionConfig
from hokku.models.vision.encoder import TileEncoder
from hokku.models.vision.tower import Tower, has_tower, open_tower

__all__ = ["TileEncoder", "Tower", "VisionConfig", "has_tower", "open_tower"]
