"""Image pins: docs/format/pins.md, "Images"."""

import re

from refusal import demand
from strict_json import array, digest, integer, record, text

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
PART = re.compile(r"[a-z0-9][a-z0-9._-]{0,31}")
FIELDS = record(
    {
        "name": text, "reference": text, "platform": text, "config": digest,
        "diff_ids": array(digest, most=256, too_many="E_TOO_MANY"),
    },
    {"index": digest, "manifest": digest, "archive": record({"seq": integer(), "digest": digest})},
)


def check_image(value, name):
    """One image for one platform."""
    image = FIELDS(value, name)
    demand(NAME.fullmatch(image["name"]), "E_MANIFEST", f"the image name {image['name']!r}")
    demand(re.fullmatch("[!-~]{1,512}", image["reference"]), "E_MANIFEST", "a reference that is no graphic ASCII")
    parts = image["platform"].split("/")
    demand(len(parts) in (2, 3) and all(PART.fullmatch(part) for part in parts), "E_MANIFEST", f"the platform {image['platform']!r}")
    demand("manifest" in image or "index" not in image, "E_MANIFEST", "an index without a manifest")
    demand(image["diff_ids"], "E_MANIFEST", "an image without layers")
    return image
