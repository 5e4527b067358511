"""What mmyolo's preprocessor, transforms and configs pass to our modules, as plain functions.

Nothing here imports mmyolo: data is recognised by its structure. docs/mmyolo.md lists the modules that use it.
"""
