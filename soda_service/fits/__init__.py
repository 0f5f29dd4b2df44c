"""What a FITS file says: headers, layout and coordinates, without any input or output."""
