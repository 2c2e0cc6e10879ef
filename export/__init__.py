"""Where quantized models go: the engines that run them and the files that they read."""
