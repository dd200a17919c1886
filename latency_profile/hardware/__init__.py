"""The machine under the server, where it is this one: its GPUs, its CPUs and its memory, while a point runs."""
