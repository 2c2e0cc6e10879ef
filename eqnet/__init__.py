"""Elastic quantization: every quantized model its users need, out of one trained PyTorch model."""
