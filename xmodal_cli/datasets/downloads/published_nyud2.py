"""NYU Depth v2: the data set, the paper's authors' files for it, and the raw video.

Sizes and hashes of the authors' files are those of their fetch scripts (s-gupta/fast-rcnn, branches `distillation` and
`sds-distillation`). Their server was unreliable in 2017 already; the copies for people were named by the author.
"""

from __future__ import annotations

from xmodal_cli.datasets.downloads.entries import PublishedFile, PublishedSet

_NYU = "http://horatio.cs.nyu.edu/mit/silberman/nyu_depth_v2/"
_NYU_PAGE = "https://cs.nyu.edu/~fergus/datasets/nyu_depth_v2.html"
_NYU_TERMS = "No licence is stated. Published for research; cite Silberman et al., ECCV 2012."
_META = "https://github.com/ankurhanda/nyuv2-meta-data/raw/master/"
_BERKELEY = "ftp://ftp.cs.berkeley.edu/pub/projects/vision/sgupta-distillation/"
_DROPBOX_2016 = "the author's Dropbox folder, linked in https://github.com/s-gupta/fast-rcnn/issues/8"
_DROPBOX_2014 = "https://www.dropbox.com/sh/zyewldvlivyhwwj/AAD0llrV-R-DfAmfbTzX6I2ua (s-gupta/rcnn-depth, issue 46)"
_AUTHORS_PAGE = "https://github.com/s-gupta/fast-rcnn/tree/distillation"
_AUTHORS_TERMS = "No licence is stated for the files; the code around them is MIT. The images are NYU Depth v2's."

NYUD2 = PublishedSet(
    "nyud2",
    "NYU Depth v2: 1,449 labelled pairs of colour and depth",
    _NYU_PAGE,
    _NYU_TERMS,
    (
        PublishedFile(
            "nyu_depth_v2_labeled.mat",
            (f"{_NYU}nyu_depth_v2_labeled.mat",),
            "images, depth in metres (filled and raw), labels, instances, scenes; MATLAB 7.3 (HDF5)",
            "size and MD5: three independent public records that agree",
            size=2_972_037_809,
            hash="md5:520609c519fba3ba5ac58c8fefcc3530",
            elsewhere=_NYU_PAGE,
        ),
        PublishedFile(
            "splits.mat",
            ("http://horatio.cs.nyu.edu/mit/silberman/indoor_seg_sup/splits.mat", f"{_META}splits.mat"),
            "the official 795 training and 654 test images",
            "size and MD5: read from a public copy; the address stands in many public scripts",
            size=2626,
            hash="md5:08e3c3aea27130ac7c01ffd739a4535f",
            elsewhere="https://github.com/ankurhanda/nyuv2-meta-data",
        ),
        PublishedFile(
            "classMapping40.mat",
            (f"{_META}classMapping40.mat",),
            "names of the 894 classes, and which of 40 each belongs to",
            "size and MD5: read from a public copy",
            size=10_474,
            hash="md5:e377c88729dd63af81205ac9a8634a19",
            elsewhere="https://github.com/ankurhanda/nyuv2-meta-data",
        ),
    ),
    prepare="nyud2",
    found=True,
)

NYUD2_AUTHORS = PublishedSet(
    "nyud2-authors",
    "NYU Depth v2 as the paper's authors packed it: crops, HHA, boxes, proposals, superpixels",
    _AUTHORS_PAGE,
    _AUTHORS_TERMS,
    (
        PublishedFile(
            "nyud2_data.tgz",
            (f"{_BERKELEY}nyud2_data.tgz",),
            "cropped images, HHA, ground truth and splits",
            "fast-rcnn, branch distillation, data/scripts/fetch_nyud2_data.sh",
            about=1_000_000_000,
            hash="md5:ce139c86cf0c2389e477786208d74b4d",
            elsewhere=_DROPBOX_2016,
        ),
        PublishedFile(
            "nyud2_mcg_boxes.mat",
            (f"{_BERKELEY}nyud2_mcg_boxes.mat",),
            "RGB-D MCG proposals, 2,000 boxes an image",
            "fast-rcnn, branch distillation, data/scripts/fetch_nyud2_mcg_boxes.sh",
            about=16_000_000,
            hash="md5:2506a31a003995eb27ea3d0ee0c8debb",
            elsewhere=_DROPBOX_2016,
        ),
        PublishedFile(
            "nyud2_sp.tgz",
            (f"{_BERKELEY}nyud2_sp.tgz",),
            "superpixels, for masks",
            "fast-rcnn, branch sds-distillation, data/scripts/fetch_nyud2_sp.sh",
            about=14_000_000,
            hash="md5:d07e8b1c5251d3612e8f954297d508d5",
            elsewhere=_DROPBOX_2016,
        ),
    ),
    prepare="nyud2",
)

NYUD2_MODELS = PublishedSet(
    "nyud2-models",
    "Networks of the paper's authors, for Caffe",
    _AUTHORS_PAGE,
    _AUTHORS_TERMS,
    (
        PublishedFile(
            "init_models.tgz",
            (f"{_BERKELEY}init_models.tgz",),
            "CaffeNet, VGG16 and the transferred HHA student (ST_vgg_to_alexnet_hha)",
            "fast-rcnn, branch distillation, data/scripts/fetch_init_models.sh",
            about=767_000_000,
            hash="md5:023859bb967f03cc94f7ae4183e53a7c",
            elsewhere=_DROPBOX_2016,
        ),
        PublishedFile(
            "nyud2_detectors.tgz",
            (f"{_BERKELEY}nyud2_detectors.tgz",),
            "two detectors on RGB and HHA",
            "fast-rcnn, branch distillation, output/scripts/fetch_nyud2_detectors.sh",
            about=1_100_000_000,
            hash="md5:c09961a875e6927b3526387d2dd0fb95",
            elsewhere=_DROPBOX_2016,
        ),
        PublishedFile(
            "nyud2_sds.tgz",
            (f"{_BERKELEY}nyud2_sds.tgz",),
            "networks for instance masks (SDS)",
            "fast-rcnn, branch sds-distillation, fetch_nyud2_sds.sh",
            about=925_000_000,
            hash="md5:0f63b5cb6e2c618255a36be00f5d8243",
            elsewhere=_DROPBOX_2016,
        ),
    ),
)

NYUD2_ECCV14 = PublishedSet(
    "nyud2-eccv14",
    "NYU Depth v2 as the same authors packed it in 2014: crops, depth, raw depth, ground truth",
    "https://github.com/s-gupta/rcnn-depth",
    "No licence is stated for the files; the code around them is BSD-2-Clause. The images are NYU Depth v2's.",
    (
        PublishedFile(
            "eccv14-data.tgz",
            (
                "http://www.cs.berkeley.edu/~sgupta/eccv14/eccv14-data.tgz",
                "https://www.dropbox.com/s/upuvhbjh4nbji02/eccv14-data.tgz?dl=1",
            ),
            "cropped images, depth, raw depth, ground truth, splits",
            "s-gupta/rcnn-depth README; the second address: public scripts that fetch it; no size or hash is published",
            about=900_000_000,
            elsewhere=_DROPBOX_2014,
        ),
    ),
    prepare="nyud2",
)

_ROOMS = (  # (type of room, number of parts; 0 where it is one file)
    ("basements", 0),
    ("bathrooms", 4),
    ("bedrooms", 7),
    ("bookstore", 3),
    ("cafe", 0),
    ("dining_rooms", 4),
    ("furniture_stores", 0),
    ("home_offices", 0),
    ("kitchens", 3),
    ("libraries", 0),
    ("living_rooms", 4),
    ("misc", 2),
    ("office_kitchens", 0),
    ("offices", 2),
    ("playrooms", 0),
    ("reception_rooms", 0),
    ("studies", 0),
    ("study_rooms", 0),
)


def _raw(name: str) -> PublishedFile:
    return PublishedFile(
        f"{name}.zip",
        (f"{_NYU}{name}.zip",),
        f"raw colour and depth video, {name.replace('_', ' ')}",
        "names: public scripts that fetch all parts; the MD5 lies beside each on the server",
        sidecar=".md5",
        elsewhere=f"{_NYU_PAGE}; as part of the one file {_NYU}nyu_depth_v2_raw.zip (about 430 GB)",
    )


NYUD2_RAW = PublishedSet(
    "nyud2-raw",
    "NYU Depth v2, raw video: 407,024 frames of 464 scenes, one zip or several by type of room",
    _NYU_PAGE,
    _NYU_TERMS,
    tuple(
        _raw(f"{room}_part{part}" if part else room)
        for room, parts in _ROOMS
        for part in (range(1, parts + 1) if parts else (0,))
    ),
    prepare="nyud2-raw",
    about=430_000_000_000,
)
