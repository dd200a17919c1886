"""The client against a server of known timing: how far its figures are from the truth, under a point's own load."""
