"""What schemas miss in manifests: rules over rendered objects. Each yields a line for everything that is wrong."""
