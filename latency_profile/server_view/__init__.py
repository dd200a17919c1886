"""The server's own view of a point beside the client's: what both say, and where they disagree. Pure."""
