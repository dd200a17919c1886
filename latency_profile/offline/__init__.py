"""An engine without a server: batch sizes, sequence lengths, request counts, shapes, data sets, and what they cost."""
