"""Other programs' processes, of which nothing is left running, however this program ends."""
