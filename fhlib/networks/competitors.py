"""Networks of others in the place of USegNet: MONAI's, trained by the same engine on the same cases.

A row of `fhlib.variants` names each by module and function. Yours may be a function in any module: it takes a width and the number of
spatial dimensions, and gives a network that returns `SegmentorOutput` (`Competitor` wraps one).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from fhlib.networks.blocks import Convolution3d, VolumeNorm
from fhlib.networks.usegnet import CLASSES, SegmentorOutput, pad_input


class Competitor(nn.Module):
    """One of MONAI's networks with USegNet's inputs and outputs: any size in, `SegmentorOutput` out, no attention maps.

    `multiple`: the input is padded with zeros at the far end to a multiple of it. `deep_supervision`: the network is a DynUNet whose
    heads at 1/2 and 1/4 size become side branches, so that it trains with Eq. 2 like ours.
    """

    def __init__(self, net: nn.Module, spatial_dims: int, multiple: int, deep_supervision: bool = False) -> None:
        super().__init__()
        self.net, self.spatial_dims, self.multiple = net, spatial_dims, multiple
        for module in net.modules():
            if type(module) is nn.Conv3d:
                module.__class__ = Convolution3d
            if isinstance(module, nn.Conv2d | nn.Conv3d) and set(module.kernel_size) == {1} != set(module.stride):
                _skip_first(module)
        self.deep_supervision = deep_supervision

    def forward(self, x: Tensor, with_attention: bool = True) -> SegmentorOutput:
        """x: (b, c, d, h, w) or (b, c, h, w). `with_attention` is there for USegNet's sake."""
        size = x.shape[2:]
        x = pad_input(x, self.multiple)
        if max(x.shape[2:]) == self.multiple:  # instance normalisation wants more than one voxel at the bottom
            x = F.pad(x, (0, self.multiple))
        logits = self.net(x)
        sides: tuple[Tensor, ...] = ()
        if self.deep_supervision and self.training:
            logits, sides = logits[:, 0], tuple(self.net.heads)  # type: ignore[arg-type]
        return SegmentorOutput(logits[(..., *(slice(n) for n in size))], sides, {})


def _skip_first(layer: nn.Conv2d | nn.Conv3d) -> None:
    """Have a strided convolution of kernel 1 take every second voxel before it and not within: the same numbers.

    Within, oneDNN's gradient of the weights of fewer channels than it packs together writes beyond its memory (its issue 6035).
    """
    kept = (..., *(slice(None, None, step) for step in layer.stride))
    layer.stride = (1,) * len(layer.stride)
    layer.register_forward_pre_hook(lambda _, inputs: (inputs[0][kept],))


def attention_u_net(width: int, spatial_dims: int) -> Competitor:
    """Attention U-Net (Oktay et al. 2018), MONAI's, with five levels of `width` to 16 `width` channels.

    Its batch normalisation is replaced by this package's normalisation over the volume at hand: with batches of one volume,
    running statistics would make it worse than it is.
    """
    from monai.networks.nets import AttentionUnet

    channels = [width * 2**level for level in range(5)]
    net = AttentionUnet(spatial_dims, 1, CLASSES, channels, strides=[2] * 4)
    for module in list(net.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.BatchNorm2d | nn.BatchNorm3d):
                setattr(module, name, VolumeNorm(child.num_features))
    return Competitor(net, spatial_dims, multiple=16)


def residual_u_net(width: int, spatial_dims: int) -> Competitor:
    """A residual U-Net of the nnU-Net family (Isensee et al. 2021): MONAI's DynUNet, planned as nnU-Net would for the paper's volumes.

    Isotropic voxels: kernels of 3 everywhere, halved four times (the shortest side of the paper's prepared volumes, 104 voxels, comes
    down to 7; on the coarser grids of the short presets nnU-Net would halve less often), channels doubled from `width` (nnU-Net: 32) to at
    most 320, instance normalisation, leaky ReLU, residual blocks, deep supervision. nnU-Net supervises all scales but the two coarsest
    with falling weights; here it is full, 1/2 and 1/4 with equal ones, as for USegNet-DS.
    """
    from monai.networks.nets import DynUNet

    net = DynUNet(
        spatial_dims,
        1,
        CLASSES,
        kernel_size=[3] * 5,
        strides=[1, 2, 2, 2, 2],
        upsample_kernel_size=[2] * 4,
        filters=[min(width * 2**level, 320) for level in range(5)],
        deep_supervision=True,
        deep_supr_num=2,
        res_block=True,
    )
    return Competitor(net, spatial_dims, multiple=16, deep_supervision=True)


def swin_unetr(width: int, spatial_dims: int) -> Competitor:
    """Swin UNETR (Hatamizadeh et al. 2022), MONAI's, with a feature size of 12 for every 16 of `width` (24, MONAI's own, at 32)."""
    from monai.networks.nets import SwinUNETR

    net = SwinUNETR(1, CLASSES, feature_size=12 * max(1, round(width / 16)), spatial_dims=spatial_dims)
    return Competitor(net, spatial_dims, multiple=32)
