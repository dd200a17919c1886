"""Inference engines without a server: each runs in a child process of ours, in the Python that has it installed."""
