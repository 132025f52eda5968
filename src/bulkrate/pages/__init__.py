"""Pages: what people look at in a browser. One file each, with nothing to fetch and nothing to run."""
