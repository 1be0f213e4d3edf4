"""The paper at full size: its public data, its settings adapted to LoRA, its scores (docs/recipes.md)."""

from workbench.recipes.fetching import Fetched, fetch
from workbench.recipes.knowledge import KNOWLEDGE
from workbench.recipes.medical import MEDICAL
from workbench.recipes.recipe import Recipe, Rows, Source
from workbench.recipes.science import SCIENCE
from workbench.recipes.tools import TOOLS

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (SCIENCE, TOOLS, MEDICAL, KNOWLEDGE)}
"""The recipes by name."""

__all__ = ["RECIPES", "Fetched", "Recipe", "Rows", "Source", "fetch"]
