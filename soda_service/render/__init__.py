"""Files out of pixels."""
