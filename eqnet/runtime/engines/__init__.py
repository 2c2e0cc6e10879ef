"""What runs artifacts, one file an engine; each is imported when an artifact of its form is opened."""
