"""The pages of exports on demand.

`routes` lists and creates them, `rows` describes one in the list, `recurring` repeats them, and `names` reads several names out of one
field.
"""

__all__ = ["recurring", "routes"]
