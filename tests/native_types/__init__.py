"""Every native type of each kind of source, with a value and the texts it is delivered as.

`values` says what a value is delivered as by each catalogued type. The other modules say how a source stores it.
"""
