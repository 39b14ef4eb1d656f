"""The segmentors: blocks, the attention module, USegNet, and building a variant by its name."""
