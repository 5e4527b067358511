"""Layout of a mask kernel: the weights of three 1x1 convolutions, predicted for each instance, which compute its mask.

The input of the first layer is the relative coordinates of a cell and the prototypes, which all instances share.

Source: RTMDet, arXiv 2212.07784, section 3.4; CondInst, arXiv 2003.05664.
"""

NUM_PROTOTYPES = 8
CHANNELS = 8
"""Outputs of the first and of the second layer."""
KERNEL_PARTS = ((NUM_PROTOTYPES + 2) * CHANNELS, CHANNELS * CHANNELS, CHANNELS, CHANNELS, CHANNELS, 1)
"""Weights of the three layers, then their biases, as mmdet orders them; 169 in all."""
COORDINATE_UNIT = 8
"""Relative coordinates are in units of so many strides of the prior."""
