"""The bit mask says what each pixel is; a pixel without data says only that."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from flows.quality_mask import QualityBit, quality_mask

EDGE = 4


def flags(valid=True, **true):
    shape = (EDGE, EDGE)
    base = dict.fromkeys(("saturated", "out_of_domain", "low_consistency"), False)
    arrays = {name: np.full(shape, value) for name, value in {**base, **true}.items()}
    return {"valid": np.full(shape, valid), **arrays}


def test_scene_classes_become_bits_at_ten_metres():
    classes = np.array([[8, 3], [6, 11]], np.uint8)
    mask = quality_mask(**flags(), scene_classes=classes)
    expected = [[QualityBit.CLOUD, QualityBit.SHADOW], [QualityBit.WATER, QualityBit.SNOW]]
    for row in range(EDGE):
        for column in range(EDGE):
            assert mask[row, column] == expected[row // 2][column // 2]


def test_without_classes_every_valid_pixel_says_so():
    assert (quality_mask(**flags(), scene_classes=None) == QualityBit.CLASS_UNKNOWN).all()


def test_a_class_that_sen2cor_does_not_have_is_unknown():
    mask = quality_mask(**flags(), scene_classes=np.full((2, 2), 200, np.uint8))
    assert (mask == QualityBit.CLASS_UNKNOWN).all()


@given(
    valid=hnp.arrays(bool, (EDGE, EDGE)),
    saturated=hnp.arrays(bool, (EDGE, EDGE)),
    strange=hnp.arrays(bool, (EDGE, EDGE)),
    classes=st.none() | hnp.arrays(np.uint8, (2, 2)),
)
def test_bits_are_set_exactly_where_their_reason_holds(valid, saturated, strange, classes):
    mask = quality_mask(
        valid=valid, saturated=saturated, out_of_domain=strange, low_consistency=~strange, scene_classes=classes
    )
    assert ((mask == QualityBit.NODATA) == ~valid).all()
    assert ((mask & QualityBit.SATURATED > 0) == (saturated & valid)).all()
    assert ((mask & QualityBit.OUT_OF_DOMAIN > 0) == (strange & valid)).all()
    assert ((mask & QualityBit.LOW_CONSISTENCY > 0) == (~strange & valid)).all()
