"""Augmentations of pixels: what known amounts do to small pictures, worked out by hand, the same for every frame."""

import numpy as np
import pytest

from mmtrain.data.augment import AUGMENTATIONS
from mmtrain.data.augment.color_jitter import ColorJitter
from mmtrain.data.augment.horizontal_flip import HorizontalFlip
from mmtrain.data.augment.pixel_noise import PixelNoise
from mmtrain.data.augment.protocol import keyed_generator
from mmtrain.data.augment.resized_crop import ResizedCrop
from mmtrain.data.augment.rotation import Rotation

DRAWS = 2000
PICTURE = np.random.default_rng(1).integers(0, 256, size=(3, 6, 6), dtype=np.uint8)


class Told:
    """A generator whose numbers are written down: of `uniform` where between its bounds, of `integers` the last."""

    def __init__(self, *places):
        self.places = list(places)

    def uniform(self, low, high):
        return low + self.places.pop(0) * (high - low)

    def integers(self, count):
        return count - 1

    def permutation(self, names):
        return np.array(names)


def colors(*rgb):
    """One frame of one pixel for each color."""
    return np.array(rgb, np.uint8)[:, :, None, None]


def test_a_flip_is_as_frequent_as_asked_for_and_mirrors():
    flip = HorizontalFlip(probability=0.3)
    found = [flip(PICTURE[None], keyed_generator(0, number)) for number in range(DRAWS)]
    mirrored = [not np.array_equal(pixels, PICTURE[None]) for pixels in found]
    assert np.mean(mirrored) == pytest.approx(0.3, abs=4 * (0.21 / DRAWS) ** 0.5)
    assert np.array_equal(found[mirrored.index(True)][0], PICTURE[:, :, ::-1])


@pytest.mark.parametrize(("place", "turns"), [(0.0, -1), (0.5, 0), (1.0, 1)])
def test_a_rotation_by_a_quarter_is_a_rotation_by_a_quarter(place, turns):
    found = Rotation(degrees=90)(PICTURE[None], Told(place))
    assert np.array_equal(found[0], np.rot90(PICTURE, turns, axes=(1, 2)))


def test_corners_that_a_rotation_brings_in_are_black():
    white = np.full((1, 3, 9, 9), 255, np.uint8)
    found = Rotation(degrees=45)(white, Told(1.0))
    assert found[0, :, 0, 0].max() == 0
    assert found[0, :, 4, 4].min() == 255


def test_a_crop_of_a_ninth_is_a_third_as_high_and_a_third_as_wide():
    """Of 9 x 9 pixels in blocks of 3 x 3 it is the last block, as large as the whole."""
    blocks = np.kron(np.arange(9, dtype=np.uint8).reshape(3, 3) * 20, np.ones((3, 3), np.uint8))[None, None].repeat(3, 1)
    found = ResizedCrop(min_share=1 / 9, max_stretch=1)(blocks, Told(0.0, 0.5))
    assert found.shape == blocks.shape
    assert set(found.ravel().tolist()) == {160}


@pytest.mark.parametrize(("stretch", "size"), [(0.0, (8, 2)), (0.5, (4, 4)), (1.0, (2, 8))])
def test_a_crop_is_stretched_to_either_side(stretch, size, monkeypatch):
    """Share 1/4 of 8 x 8 is 4 x 4; stretched by 4 it is 8 wide and 2 high."""
    seen = {}
    monkeypatch.setattr(
        "torchvision.transforms.v2.functional.resized_crop", lambda pixels, **box: seen.update(box) or pixels
    )
    ResizedCrop(min_share=0.25, max_stretch=4)(np.zeros((1, 3, 8, 8), np.uint8), Told(0.0, stretch))
    assert (seen["height"], seen["width"]) == size
    assert (seen["top"], seen["left"]) == (8 - size[0], 8 - size[1])


def test_brightness_is_a_factor():
    jitter = ColorJitter(brightness=0.5, contrast=0, saturation=0, hue=0)
    found = jitter(colors((100, 40, 200), (2, 0, 8)), Told(1.0, 0.5, 0.5, 0.5))
    assert found[:, :, 0, 0].tolist() == [[150, 60, 255], [3, 0, 12]]


def test_contrast_is_about_the_frames_mean_gray():
    """Gray of 50 and 150: mean 100, and half the contrast is 75 and 125."""
    frame = np.array([50, 150], np.uint8)[None, None, None].repeat(3, 1)  # [1, 3, 1, 2]
    found = ColorJitter(brightness=0, contrast=0.5, saturation=0, hue=0)(frame, Told(0.5, 0.0, 0.5, 0.5))
    assert np.abs(found[0, 0, 0].astype(int) - [75, 125]).max() <= 1


def test_without_saturation_there_is_gray_and_half_a_turn_of_hue_is_the_opposite_color():
    gray = ColorJitter(brightness=0, contrast=0, saturation=1, hue=0)(colors((200, 0, 0)), Told(0.5, 0.5, 0.0, 0.5))
    assert np.abs(gray[0, :, 0, 0].astype(float) - 0.299 * 200).max() <= 1
    cyan = ColorJitter(brightness=0, contrast=0, saturation=0, hue=0.5)(colors((200, 0, 0)), Told(0.5, 0.5, 0.5, 1.0))
    assert cyan[0, :, 0, 0].tolist() == [0, 200, 200]


def test_the_order_of_the_adjustments_is_drawn():
    """Brightness before contrast is cut at 255 first; the other way it is not: two orders, two results."""
    frame = np.array([[[10, 250]] * 3], np.uint8)
    jitter = ColorJitter(brightness=1, contrast=1, saturation=0, hue=0)

    class Backwards(Told):
        def permutation(self, names):
            return np.array(names[::-1])

    amounts = (1.0, 0.25, 0.5, 0.5)
    assert not np.array_equal(jitter(frame, Told(*amounts)), jitter(frame, Backwards(*amounts)))


def test_noise_has_its_deviation_and_no_picture_like_another():
    gray = np.full((2, 3, 60, 60), 128, np.uint8)
    found = PixelNoise(std=10)(gray, keyed_generator(0, 0)).astype(float) - 128
    assert found.mean() == pytest.approx(0, abs=4 * 10 / found.size**0.5)
    assert found.std() == pytest.approx((100 + 1 / 12) ** 0.5, rel=0.03)  # rounding adds a twelfth
    assert not np.array_equal(found[0], found[1])
    assert set(np.unique(PixelNoise(std=1e12)(gray, keyed_generator(0, 1)))) == {0, 255}


@pytest.mark.parametrize("row", [row for row in AUGMENTATIONS if row.reads == "images" and row().name != "pixel_noise"])
def test_all_frames_of_a_sample_change_alike(row):
    frames = np.repeat(PICTURE[None], 4, axis=0)
    for number in range(20):
        found = row().build()(frames, keyed_generator(5, number))
        assert (found == found[:1]).all()
        alone = row().build()(frames[:1], keyed_generator(5, number))
        assert np.array_equal(alone, found[:1]), "whatever stands beside it"
