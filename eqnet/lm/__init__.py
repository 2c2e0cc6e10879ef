"""Language models: from a folder of Hugging Face's transformers, or a GGUF file, to packed weights and back."""
