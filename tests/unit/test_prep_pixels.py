"""The extractor `pixels`: every kind of picture becomes red, green and blue of one size, or says why it cannot."""

import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_prep.extractors import IMAGE, VIDEO
from data_prep.extractors.pixels import Pixels, natural_order, read_picture
from mmtrain.errors import DataError

Image = pytest.importorskip("PIL.Image")

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)


def save(file, array, mode=None, **options):
    Image.fromarray(np.asarray(array, np.uint8), mode).save(file, **options)
    return file


def corners(pixels):
    """Colors of the four corners, row by row."""
    return [tuple(pixels[:, row, column].tolist()) for row in (0, -1) for column in (0, -1)]


def test_a_picture_is_one_row_and_a_folder_one_for_each_in_natural_order(tmp_path):
    (tmp_path / "frames").mkdir()
    for number in (10, 9, 1, 2):
        save(tmp_path / "frames" / f"frame-{number}.png", np.full((6, 6, 3), number))
    (tmp_path / "frames" / "notes.txt").write_text("not a frame")
    (tmp_path / "frames" / "._frame-3.png").write_text("what a Mac leaves behind")
    extractor = VIDEO["pixels"](size=4, frames_per_second=2.5)
    rows = extractor(tmp_path / "frames")
    assert (rows.dtype, rows.shape) == (np.uint8, (4, 3, 4, 4))
    assert rows[:, 0, 0, 0].tolist() == [1, 2, 9, 10]
    one = IMAGE["pixels"](size=4)(tmp_path / "frames" / "frame-9.png")
    assert np.array_equal(one, rows[2:3])
    assert (extractor.spec.shape, extractor.spec.dim, extractor.spec.dtype) == ((3, 4, 4), 48, "uint8")
    assert (extractor.spec.rows_per_second, extractor.spec.extractor) == (2.5, "pixels")


def test_natural_order():
    names = ["b1", "a10.png", "a2.png", "a02.png", "A1.png", "a", "1", "10", "9z"]
    assert sorted(names, key=natural_order) == ["1", "9z", "10", "a", "A1.png", "a02.png", "a2.png", "a10.png", "b1"]


def test_the_center_square_is_kept(tmp_path):
    """A white square between red and blue sides: of 12 x 4 the middle 4 x 4, of 4 x 12 as well."""
    wide = np.zeros((4, 12, 3), np.uint8)
    wide[:, :4], wide[:, 4:8], wide[:, 8:] = RED, WHITE, BLUE
    for name, array in (("wide", wide), ("high", wide.transpose(1, 0, 2))):
        assert (read_picture(save(tmp_path / f"{name}.png", array), 4) == 255).all()


@pytest.mark.parametrize("size", [2, 7, 16])
def test_the_square_is_the_middle_of_the_whole_picture_resized(tmp_path, size):
    """Also at its borders, where the filter reads what lies beside it."""
    array = np.random.default_rng(0).integers(0, 256, (10, 30, 3), np.uint8)
    found = read_picture(save(tmp_path / "wide.png", array), size)
    whole = np.asarray(Image.fromarray(array).resize((3 * size, size), Image.Resampling.BILINEAR))
    assert np.abs(found.astype(int) - whole[:, size : 2 * size].transpose(2, 0, 1)).max() <= 1


def test_shrinking_averages(tmp_path):
    """A checkerboard of single pixels becomes gray, not one of its two colors."""
    board = np.indices((64, 64)).sum(axis=0)[..., None].repeat(3, 2) % 2 * 255
    found = read_picture(save(tmp_path / "board.png", board), 8).astype(int)
    assert np.abs(found - 127.5).max() < 8


def test_sides_of_the_camera_are_turned_by_exif(tmp_path):
    picture = Image.new("RGB", (4, 4), WHITE)
    picture.putpixel((0, 0), RED)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a quarter turn to the right
    picture.save(tmp_path / "turned.png", exif=exif)
    assert corners(read_picture(tmp_path / "turned.png", 4)) == [WHITE, RED, WHITE, WHITE]


def test_what_is_transparent_is_white(tmp_path):
    half = np.zeros((4, 4, 4), np.uint8)
    half[..., 0], half[:2, :, 3], half[2:, :, 3] = 200, 255, 0
    found = read_picture(save(tmp_path / "half.png", half), 4)
    assert corners(found) == [(200, 0, 0), (200, 0, 0), WHITE, WHITE]
    gray = np.zeros((4, 4, 2), np.uint8)
    gray[..., 1] = 128
    found = read_picture(save(tmp_path / "gray.png", gray, "LA"), 4)
    assert np.abs(found.astype(int) - 127).max() <= 1  # black under half a veil over white


def test_palettes(tmp_path):
    picture = Image.new("P", (4, 4), 0)
    picture.putpalette([*GREEN, *BLUE] + [0] * 762)
    picture.putpixel((3, 3), 1)
    picture.save(tmp_path / "plain.png")
    assert corners(read_picture(tmp_path / "plain.png", 4)) == [GREEN, GREEN, GREEN, BLUE]
    for name in ("clear.png", "clear.gif"):
        picture.save(tmp_path / name, transparency=0)
        assert corners(read_picture(tmp_path / name, 4)) == [WHITE, WHITE, WHITE, BLUE]
    picture.save(tmp_path / "bytes.png", transparency=bytes([0] + [255] * 255))
    assert corners(read_picture(tmp_path / "bytes.png", 4))[0] == WHITE


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bits_become_eight(tmp_path, suffix):
    values = np.array([[0, 1000, 40000, 65535]], np.uint16).repeat(4, 0)
    Image.fromarray(values).save(tmp_path / f"deep.{suffix}")
    found = read_picture(tmp_path / f"deep.{suffix}", 4)
    assert found[:, 0].tolist() == [[0, 4, 156, 255]] * 3  # divided by 257


@pytest.mark.parametrize("mode", ["1", "L", "CMYK", "YCbCr", "RGB"])
def test_other_kinds_of_color(tmp_path, mode):
    Image.new("RGB", (4, 4), WHITE).convert(mode).save(tmp_path / "white.tif")
    assert (read_picture(tmp_path / "white.tif", 4) >= 253).all()


def test_of_an_animated_picture_the_first(tmp_path):
    frames = [Image.new("P", (4, 4), color=number) for number in (0, 1)]
    for frame in frames:
        frame.putpalette([*RED, *BLUE] + [0] * 762)
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    assert corners(read_picture(tmp_path / "moving.gif", 4)) == [RED] * 4


def test_what_cannot_be_read_says_why(tmp_path):
    extractor = Pixels(size=4)
    (tmp_path / "note.png").write_text("not a picture")
    (tmp_path / "empty.png").write_bytes(b"")
    content = save(tmp_path / "whole.png", np.random.default_rng(0).integers(0, 255, (40, 40, 3))).read_bytes()
    (tmp_path / "cut.png").write_bytes(content[: len(content) // 2])
    for name in ("note.png", "empty.png", "cut.png", "absent.png"):
        with pytest.raises(DataError, match=r"^not a readable picture \(.+\)$"):
            extractor(tmp_path / name)
    Image.fromarray(np.array([[0.5, 1e9]], np.float32)).save(tmp_path / "float.tif")
    with pytest.raises(DataError, match=r"its pixels are float32 from 0.5 to 1000000000.0; save it with 8 or 16 bits"):
        extractor(tmp_path / "float.tif")
    Image.fromarray(np.array([[0, 1 << 20]], np.int32)).save(tmp_path / "wide.tif")
    with pytest.raises(DataError, match="its pixels are int32 from 0 to 1048576; save it with 8 or 16 bits"):
        extractor(tmp_path / "wide.tif")


def test_of_a_folder_the_frame_is_named(tmp_path):
    folder = tmp_path / "frames"
    folder.mkdir()
    with pytest.raises(DataError, match=r"^the folder holds no picture$"):
        Pixels(size=4)(folder)
    save(folder / "1.png", np.zeros((4, 4, 3)))
    (folder / "2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"^2\.png: not a readable picture"):
        Pixels(size=4)(folder)
    (folder / "2.png").unlink()
    (folder / "3.png").symlink_to(save(tmp_path / "secret.png", np.zeros((4, 4, 3))))
    with pytest.raises(DataError, match=r"^3\.png leads out of the folder; put the picture itself there$"):
        Pixels(size=4)(folder)
    (folder / "3.png").unlink()
    (folder / "4.png").symlink_to(folder / "4.png")
    with pytest.raises(DataError, match=r"4\.png|not a readable folder"):
        Pixels(size=4)(folder)


def test_without_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    with pytest.raises(
        DataError, match=r"the extractor pixels needs the package pillow\. Write: pip install 'mmtrain\[prep\]'"
    ):
        IMAGE["pixels"]()


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
@pytest.mark.parametrize("kind", ["png", "jpeg", "gif", "tiff", "webp", "bmp"])
def test_random_damage_gives_pixels_or_a_reason(tmp_path, kind, data):
    file = tmp_path / f"damaged.{kind}"
    save(file, np.random.default_rng(0).integers(0, 255, (9, 7, 3)))
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    if data.draw(st.booleans()):
        content = content[:place]
    else:
        junk = data.draw(st.binary(min_size=1, max_size=8))
        content[place : place + len(junk)] = junk
    file.write_bytes(content)
    try:
        pixels = read_picture(file, 4)
    except DataError:
        return
    assert pixels.shape == (3, 4, 4)
