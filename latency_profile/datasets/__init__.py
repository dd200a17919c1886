"""Data sets before they are a workload: lengths estimated from them, sets of others brought into the tool's form, and
prompts made by a model.

Importing this package is cheap; each command imports what it needs.
"""
