"""Bytes by range, from wherever they lie; nothing here knows FITS."""
