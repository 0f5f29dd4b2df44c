"""What there is: the answers of SIA 2.0 and DataLink 1.1, without HTTP."""
