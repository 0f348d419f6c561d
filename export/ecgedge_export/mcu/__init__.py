"""Integer C99 of an INT8 file, for a microcontroller."""
