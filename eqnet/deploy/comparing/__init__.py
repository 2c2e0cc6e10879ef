"""Two forms of one network beside each other: outputs, and layer by layer where both let one see them."""
