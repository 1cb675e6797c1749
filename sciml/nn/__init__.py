"""Layer 2: trainable blocks that two or more methods share."""

from ._attention_messages import AttentionMessages as AttentionMessages
from ._channel_mlp import ChannelLinear as ChannelLinear
from ._channel_mlp import ChannelMLP as ChannelMLP
from ._convolution import Convolution as Convolution
from ._coordinates import coordinate_channels as coordinate_channels
from ._coordinates import n_coordinate_channels as n_coordinate_channels
from ._fourier_layer import FourierLayer as FourierLayer
from ._fourier_layer import LayerForm as LayerForm
from ._gelu import gelu as gelu
from ._point_mlp import PointMLP as PointMLP
from ._point_mlp import standardise as standardise
from ._spectral_conv import SpectralConv as SpectralConv
from ._stack import apply_stack as apply_stack
from ._stack import make_stack as make_stack
from ._unet import UNet as UNet
