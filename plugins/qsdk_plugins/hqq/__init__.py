"""Half-quadratic quantization: the grid's zero is moved to where few weights are far off."""
