"""What is wrong with manifests: what would be refused, what would never schedule, what runs but does something else.

`run.lint` takes what `manifests.reading` read and returns findings. A rule is one file under `rules/`; its docstring is
its documentation, and the examples in it are its first tests.
"""
