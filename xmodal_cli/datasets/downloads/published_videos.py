"""JHMDB and UCF101, which the paper used for optical flow."""

from __future__ import annotations

from xmodal_cli.datasets.downloads.entries import PublishedFile, PublishedSet

_JHMDB = "files.is.tue.mpg.de/jhmdb/"
_JHMDB_PAGE = "http://jhmdb.is.tue.mpg.de/dataset"
_JHMDB_SOURCE = "MD5: a public script that checks all files of the page; no second record was found"
_UCF = "https://www.crcv.ucf.edu/data/UCF101/"
_UCF_PAGE = "https://www.crcv.ucf.edu/data/UCF101.php"
_UCF_TERMS = "No licence is stated; the videos come from YouTube. Cite Soomro et al., 2012."
_THUMOS = "https://storage.googleapis.com/thumos14_files/"


def _jhmdb(name: str, md5: str, what: str, *, size: int = 0) -> PublishedFile:
    return PublishedFile(
        name,
        (f"http://{_JHMDB}{name}", f"https://{_JHMDB}{name}"),
        what,
        _JHMDB_SOURCE + ("; size: a public list" if size else ""),
        size=size,
        hash=f"md5:{md5}",
        elsewhere=_JHMDB_PAGE,
    )


JHMDB = PublishedSet(
    "jhmdb",
    "JHMDB: 928 clips of 21 actions, with a box in each of 31,838 frames",
    _JHMDB_PAGE,
    "No licence is stated; published for research. Cite Jhuang et al., ICCV 2013.",
    (
        _jhmdb("Rename_Images.tar.gz", "23726fbac4bc69a726dc3daf2e7ab4c1", "all frames as PNG, a folder a clip"),
        _jhmdb("splits.zip", "15b9f2f7a99d63c07f3be0c9ecde43b5", "three splits into train and test", size=43_785),
        PublishedFile(
            "jhmdb_annot.mat",
            ("https://github.com/gkioxari/ActionTubes/raw/master/jhmdb_annot.mat",),
            "the person's box in every frame, as Finding Action Tubes used them",
            "the file in gkioxari/ActionTubes; size and MD5 read from a copy",
            size=207_957,
            hash="md5:bf7aacb3fee6f3e584251ca08af55b3d",
            elsewhere="https://github.com/gkioxari/ActionTubes",
        ),
    ),
    prepare="jhmdb",
    found=True,
)

JHMDB_MORE = PublishedSet(
    "jhmdb-more",
    "JHMDB, what else was published: videos, masks, joints, splits of the smaller set",
    _JHMDB_PAGE,
    JHMDB.licence,
    (
        _jhmdb("JHMDB_video.zip", "0aca5af988892c8c2afe652a30544b8c", "the clips as videos", size=185_602_053),
        _jhmdb("puppet_mask.zip", "eebf6c6c71faa16709b709b758710d17", "the person's mask in every frame"),
        _jhmdb(
            "joint_positions.zip",
            "3d1ac91bcb8544ddfdd9547997db239f",
            "the person's joints in every frame",
            size=14_177_716,
        ),
        _jhmdb("sub_splits.zip", "e459df140cde2125c61970151a0ea8cb", "splits of sub-JHMDB", size=19_829),
    ),
)

_UCF_SPLITS = PublishedFile(
    "UCF101TrainTestSplits-RecognitionTask.zip",
    (f"{_UCF}UCF101TrainTestSplits-RecognitionTask.zip",),
    "three splits into train and test, and the list of classes",
    "SHA-256: pytorch/vision, prototype of its data sets",
    hash="sha256:5c0d1a53b8ed364a2ac830a73f405e51bece7d98ce1254fd19ed4a36b224bd27",
    elsewhere=_UCF_PAGE,
)

UCF101 = PublishedSet(
    "ucf101",
    "UCF101: 13,320 videos of 101 actions, with their split lists",
    _UCF_PAGE,
    _UCF_TERMS,
    (
        PublishedFile(
            "UCF101.rar",
            (f"{_UCF}UCF101.rar",),
            "all videos, in a RAR file (needs bsdtar, unar or unrar)",
            "size: public records of its Content-Length; SHA-256: pytorch/vision, prototype of its data sets",
            size=6_932_971_618,
            hash="sha256:ca8dfadb4c891cb11316f94d52b6b0ac2a11994e67a0cae227180cd160bd8e55",
            elsewhere=f"{_UCF_PAGE}; the same videos as a zip: `xmodal download ucf101-zip`",
        ),
        _UCF_SPLITS,
    ),
    prepare="ucf101",
    found=True,
)

UCF101_ZIP = PublishedSet(
    "ucf101-zip",
    "UCF101 as a zip, for machines without a program that reads RAR",
    _UCF_PAGE,
    _UCF_TERMS,
    (
        PublishedFile(
            "UCF101_videos.zip",
            (f"{_THUMOS}UCF101_videos.zip",),
            "all videos",
            "address: tensorflow/datasets, ucf101; no hash is published there, the store states an MD5",
            about=6_960_000_000,
            elsewhere="`xmodal download ucf101`",
        ),
        _UCF_SPLITS,
    ),
    prepare="ucf101",
    found=True,
)
