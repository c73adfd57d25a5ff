"""MS COCO, whose detectors the paper's zero-shot experiment carries over to depth; networks for Caffe."""

from __future__ import annotations

from xmodal_cli.datasets.downloads.entries import PublishedFile, PublishedSet

_HOSTS = (
    "http://images.cocodataset.org/",
    "https://s3.amazonaws.com/images.cocodataset.org/",  # the store behind it
)
_PAGE = "https://cocodataset.org/#download"
_TERMS = "Annotations: CC BY 4.0. Images: Flickr's terms of use; each image's licence stands in the annotations."
_SOURCE = "size and MD5: several public records that agree (the MD5 is PaddleDetection's)"


def _coco(folder: str, name: str, size: int, md5: str, what: str) -> PublishedFile:
    urls = tuple(f"{host}{folder}/{name}" for host in _HOSTS)
    return PublishedFile(name, urls, what, _SOURCE, size=size, hash=f"md5:{md5}", elsewhere=_PAGE)


COCO2017 = PublishedSet(
    "coco2017",
    "MS COCO 2017: 118,287 and 5,000 images with boxes and masks of 80 classes",
    _PAGE,
    _TERMS,
    (
        _coco(
            "annotations",
            "annotations_trainval2017.zip",
            252_907_541,
            "f4bbac642086de4f52a3fdda2de5fa2c",
            "instances, captions and keypoints of both splits",
        ),
        _coco("zips", "val2017.zip", 815_585_330, "442b8da7639aecaf257c1dceb8ba8c80", "5,000 images"),
        _coco("zips", "train2017.zip", 19_336_861_798, "cced6f7f71b7629ddf16f17bbcfab6b2", "118,287 images"),
    ),
    prepare="coco",
    found=True,
)

COCO2014 = PublishedSet(
    "coco2014",
    "MS COCO 2014, the division that the paper's detectors were trained on",
    _PAGE,
    _TERMS,
    (
        _coco(
            "annotations",
            "annotations_trainval2014.zip",
            252_872_794,
            "0a379cfc70b0e71301e0f377548639bd",
            "instances, captions and keypoints of both splits",
        ),
        _coco("zips", "val2014.zip", 6_645_013_297, "a3d79f5ed8d289b7a7554ce06a5782b3", "40,504 images"),
        _coco("zips", "train2014.zip", 13_510_573_713, "0da8c0bd3d6becc4dcb32757491aca88", "82,783 images"),
    ),
    prepare="coco",
    found=True,
)

CAFFE_MODELS = PublishedSet(
    "caffe-models",
    "ImageNet networks for Caffe that the authors started from",
    "https://github.com/BVLC/caffe/tree/master/models/bvlc_reference_caffenet",
    "CaffeNet: released for unrestricted use. The others: no licence is stated.",
    (
        PublishedFile(
            "bvlc_reference_caffenet.caffemodel",
            ("http://dl.caffe.berkeleyvision.org/bvlc_reference_caffenet.caffemodel",),
            "CaffeNet",
            "BVLC/caffe, models/bvlc_reference_caffenet/readme.md; size: 232 MB in a public script",
            about=243_000_000,
            hash="sha1:4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46",
            elsewhere="inside init_models.tgz (`xmodal download nyud2-models`)",
        ),
        PublishedFile(
            "imagenet_models.tgz",
            (
                "https://people.eecs.berkeley.edu/~rbg/fast-rcnn-data/imagenet_models.tgz",
                "http://www.cs.berkeley.edu/~rbg/fast-rcnn-data/imagenet_models.tgz",
            ),
            "CaffeNet, VGG_CNN_M_1024 and VGG16",
            "MD5: fast-rcnn, data/scripts/fetch_imagenet_models.sh; the addresses are those of its sister files",
            about=1_000_000_000,
            hash="md5:8b1d4b9da0593fc70ef403284f810adc",
            elsewhere="https://github.com/rbgirshick/fast-rcnn",
        ),
    ),
)
