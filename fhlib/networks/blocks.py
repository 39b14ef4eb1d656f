"""Building blocks of the encoder and the decoder (section 2.3), in 2D and 3D."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Convolution3d(nn.Conv3d):
    """`nn.Conv3d`, in single precision on a CPU where a volume has fewer planes than the kernel.

    There the gradient of the weights in bf16 holds memory that nobody wrote (oneDNN of torch 2.13: kernel 3 on 2 planes, 5 on 3 or 4), and
    training becomes NaN or, worse, does not.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[2] < self.kernel_size[0] and x.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float())
        return super().forward(x)


class Deconvolution3d(nn.ConvTranspose3d):
    """`nn.ConvTranspose3d`, with `Convolution3d`'s remedy where its output has fewer planes than the kernel."""

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        if x.shape[2] * self.stride[0] < self.kernel_size[0] and x.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                return super().forward(x.float(), output_size)
        return super().forward(x, output_size)


CONVOLUTION: dict[int, type[nn.Module]] = {2: nn.Conv2d, 3: Convolution3d}
DECONVOLUTION: dict[int, type[nn.Module]] = {2: nn.ConvTranspose2d, 3: Deconvolution3d}
MAX_POOL: dict[int, type[nn.Module]] = {2: nn.MaxPool2d, 3: nn.MaxPool3d}


def convolution(spatial_dims: int, in_channels: int, out_channels: int, kernel: int, kind: str = "full") -> nn.Module:
    """A "same" padded convolution of stride 1 with a bias.

    Args:
        spatial_dims: 2 or 3.
        in_channels: of the input.
        out_channels: of the output.
        kernel: its edge, odd.
        kind: `full`, or one of two cheaper ones that the paper's discussion names. `pseudo-3D` goes within the planes of the first axis
            and then across them (its [44]; in 2D it is a full one). `separable` takes each channel by itself, then 1x1x1 across them
            (its [45]).
    """
    layer = CONVOLUTION[spatial_dims]
    if kind == "full" or kernel == 1 or (kind == "pseudo-3D" and spatial_dims == 2):
        return layer(in_channels, out_channels, kernel, padding=kernel // 2)
    if kind == "pseudo-3D":
        return FactoredConvolution(
            layer(in_channels, out_channels, (1, kernel, kernel), padding=(0, kernel // 2, kernel // 2)),
            layer(out_channels, out_channels, (kernel, 1, 1), padding=(kernel // 2, 0, 0)),
        )
    return FactoredConvolution(
        layer(in_channels, in_channels, kernel, padding=kernel // 2, groups=in_channels),
        layer(in_channels, out_channels, 1),
    )


class FactoredConvolution(nn.Sequential):
    """Two convolutions with nothing between them in the place of one."""


class VolumeNorm(nn.Module):
    """Normalise each channel with the statistics of the volume at hand, in training and in prediction.

    The paper says batch normalisation (section 2.3) with batches of one; the authors' code takes the statistics of that one volume
    at test time too. For one volume this is instance normalisation with affine weights, and so it is here for every batch size. A volume's
    result does not depend on its neighbours in the batch, but for the padding to the largest.
    """

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # torch's own functions: those of nn.functional refuse the single voxel that a small image has at the bottom
        if x.shape[0] == 1:  # keeps the memory format, which instance_norm does not
            return torch.batch_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, True)
        return torch.instance_norm(x, self.weight, self.bias, None, None, True, 0.0, self.eps, True)


class ConvNormReLU(nn.Sequential):
    """C-BN-R: (b, in, ...) -> (b, out, ...)."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, kernel: int, kind: str = "full") -> None:
        super().__init__(
            convolution(spatial_dims, in_channels, out_channels, kernel, kind),
            VolumeNorm(out_channels),
            nn.ReLU(inplace=True),
        )


class EncoderBlock(nn.Sequential):
    """Two successive C-BN-R layers between two poolings (section 2.3)."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, kernel: int, kind: str = "full") -> None:
        super().__init__(
            ConvNormReLU(spatial_dims, in_channels, out_channels, kernel, kind),
            ConvNormReLU(spatial_dims, out_channels, out_channels, kernel, kind),
        )


class Upsampling(nn.Sequential):
    """Deconvolution of stride 2, normalisation, ReLU: exactly twice the size."""

    def __init__(self, spatial_dims: int, in_channels: int, out_channels: int, kernel: int) -> None:
        deconvolution = DECONVOLUTION[spatial_dims]
        super().__init__(
            deconvolution(in_channels, out_channels, kernel, stride=2, padding=kernel // 2, output_padding=1),
            VolumeNorm(out_channels),
            nn.ReLU(inplace=True),
        )
