"""Packed models in use: where they come from, what they take, and what runs them."""
