"""What a source holds, as its own catalogue tells it: `base` has the words, and one module per kind of source reads them."""
