"""Pixels out of bytes: a box of stored values, in bands of bounded size."""
