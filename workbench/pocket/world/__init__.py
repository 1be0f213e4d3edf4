"""The closed world that the pocket model knows, all of it made by these files from fixed seeds.

Each family of questions has `known(r)`, a question whose answer the model learns by heart, and `invented(r)`,
one whose content nobody has seen, so that only a demonstration can tell it. `ask(thing, ..., r)` words one.
"""
