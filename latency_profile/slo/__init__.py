"""Objectives of a load (`--slo`): whether a point keeps them, as far as its sample tells. Pure."""
