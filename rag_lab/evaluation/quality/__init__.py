"""Quality, measured: retrieval and answers on every question set that is on this machine."""
