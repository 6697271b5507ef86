"""What is in a file: the header, the parts, and what is checked before anything is believed."""
