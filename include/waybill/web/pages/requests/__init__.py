"""The pages of exports on demand. `routes` lists and creates them, `rows` describes one in the list, and `recurring` repeats them."""
