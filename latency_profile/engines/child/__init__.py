"""The engine's process. Nothing here needs more than the standard library and the engine itself."""
