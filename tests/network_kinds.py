"""The kinds of networks that every promise about backbones is tested on."""

KINDS = (
    "alexnet",
    "caffenet",
    "caffenet-rgb",
    "vgg16",
    "squeezenet1_1",
    "resnet18",
    "mobilenetv3_small_100",
    "efficientnet_b0",
    "convnext_atto",
    "vit_tiny_patch16_224",
    "swin_tiny_patch4_window7_224",
    "regnety_002",
    "densenet121",
)
SELF_SUPERVISED = ("vit_small_patch14_dinov2", "vit_small_patch16_dinov3", "vit_base_patch16_siglip_224")
ODD_HW = (104, 136)  # no multiple of 32, nor of 14, and small: every kind runs at it
