"""Provider `local`: a batch server of our own on this machine, found or started when it is needed."""
