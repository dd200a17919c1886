"""A pod that can be watched: what a profile shows of itself while it runs, and when it is over."""
