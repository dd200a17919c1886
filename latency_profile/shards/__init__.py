"""One plan over many pods: each sends its slice, they meet through the results store, and shard 0 judges the whole."""
