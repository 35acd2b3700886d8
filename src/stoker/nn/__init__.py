"""Model definitions: the shape, the tokenizer, the decoder that serves (numpy) and the module that trains (torch).

config      config.json with Hugging Face's key names
tokenizer   text to tokens and back, the chat template
decoder     the forward pass on a CPU, made for continuous batching
sampling    logits to the next token
image       an image as soft tokens
bundle      a folder of weights, loaded
torch_model the same model for training; needs the extra stoker[train]
"""
