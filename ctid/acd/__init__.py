"""What is true on the floor now. Pure: no I/O, no clock, no log."""
