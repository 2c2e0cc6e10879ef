"""What is stored: codes in exactly their bits, with their scales and zero points."""
