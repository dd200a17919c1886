"""The report as one HTML file, and its figures as PNG and SVG. Computes nothing that the results do not hold."""
