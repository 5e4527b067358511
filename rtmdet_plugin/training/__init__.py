"""Train on a folder: read annotations in several formats, choose numbers that fit the data, write a config, run it."""
