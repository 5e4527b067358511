"""Tools for the command line."""
