"""A gallery of failures: scenes that go wrong in a known way, and what the product's own layers say of it.

Every case starts from a real Sentinel-2 patch (or a simulated scene of known truth), changes one thing, and compares
the layers of the new estimate with those of the untouched patch. Mixtures are linear: a share ``a`` of something with
bands ``q`` in front of ground ``y`` gives ``(1 - a_r) y + a_r q`` at each band's own resolution ``r``, with ``a_r`` the
share seen through the coarse band's point-spread function (Adams, Smith & Johnson, "Spectral mixture modeling", JGR
91(B8), 1986; the ground's texture under the edge of a coarse pixel is neglected).

A failure is *flagged* when most of its pixels carry a quality bit that they did not carry before (out of domain or low
consistency), *visible* when some layer that states doubt leaves the untouched patch's normal range on most of them,
and *not exposed* otherwise. Verdicts are worked out, never written by hand.

``python -m model.evaluation.gallery --data DIR --out docs/images`` draws every picture and rewrites the numbers in
the chapter on reading explanations.
"""

from model.evaluation.gallery.case import Case, measured_sentence
from model.evaluation.gallery.cases import Gallery, make_gallery
from model.evaluation.gallery.changes import CLOUD, blend, cloud_opacity, target_share, with_offset, with_swap
from model.evaluation.gallery.chapter import chapter_blocks
from model.evaluation.gallery.layers import RELATIVE, Exposure, decoded, exposures, states_doubt
from model.evaluation.gallery.patches import FIELDS, LAKE, PASTURE, PLATFORM, SNOW, read_patches
from model.evaluation.gallery.places import far_from, small_objects
from model.evaluation.markdown import rewrite

__all__ = [
    "CLOUD",
    "FIELDS",
    "LAKE",
    "PASTURE",
    "PLATFORM",
    "RELATIVE",
    "SNOW",
    "Case",
    "Exposure",
    "Gallery",
    "blend",
    "chapter_blocks",
    "cloud_opacity",
    "decoded",
    "exposures",
    "far_from",
    "make_gallery",
    "measured_sentence",
    "read_patches",
    "rewrite",
    "small_objects",
    "states_doubt",
    "target_share",
    "with_offset",
    "with_swap",
]
