"""What can go wrong in the recipe, in words for the person who runs it."""


class RecipeError(Exception):
    """A stage cannot do its work; the message says why, and what to try."""


class ChatError(RecipeError):
    """The engine under evaluation did not answer."""
