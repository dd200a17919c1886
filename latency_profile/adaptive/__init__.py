"""`--adaptive-rates`: points where the curve bends, in place of a fixed list."""
