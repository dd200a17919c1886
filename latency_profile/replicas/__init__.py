"""How many replicas a target load takes, from points that were measured. Pure but for reading and writing."""
