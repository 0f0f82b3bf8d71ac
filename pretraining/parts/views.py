"""Random views of images: batched, on their device, drawn from the given generator only.

All take and return float images_BCHW in [0, 1].
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from pretraining.objective import Moment
from pretraining.parts.masks import rows_of

LUMA = (0.299, 0.587, 0.114)


@torch.no_grad()
def random_crop(images_BCHW: Tensor, moment: Moment, *, min_area_ratio: float) -> Tensor:
    """Return one crop of each image, as large as the image, mirrored half the time; in float32."""
    with torch.autocast(images_BCHW.device.type, enabled=False):
        return random_resized_crop(
            images_BCHW, moment, min_area_ratio=min_area_ratio, max_aspect=4 / 3, flip_ratio=0.5
        )


@torch.no_grad()
def random_view(
    images_BCHW: Tensor,
    moment: Moment,
    *,
    min_area_ratio: float,
    max_area_ratio: float = 1.0,
    side_px: int | None = None,
    colour_strength: float,
    blur_ratio: float = 0.0,
) -> Tensor:
    """Return one view of each image: a crop, mirrored half the time, other colours, a blur.

    Args:
        images_BCHW: the pictures.
        moment: whose randomness it is.
        min_area_ratio: the least share of a picture that the crop keeps.
        max_area_ratio: the largest.
        side_px: of the view; that of the picture where not given.
        colour_strength: how far colours are changed; 0 leaves them.
        blur_ratio: the share of views that are blurred.
    Reference: Chen et al. 2020, arXiv:2002.05709, appendix A.
    """
    with torch.autocast(images_BCHW.device.type, enabled=False):
        images_BCHW = random_resized_crop(
            images_BCHW,
            moment,
            min_area_ratio=min_area_ratio,
            max_area_ratio=max_area_ratio,
            side_px=side_px,
            max_aspect=4 / 3,
            flip_ratio=0.5,
        )
        images_BCHW = random_colours(images_BCHW, moment, strength=colour_strength)
        return random_blur(images_BCHW, moment, blur_ratio=blur_ratio)


@torch.no_grad()
def multi_crop(
    images_BCHW: Tensor,
    moment: Moment,
    *,
    local_crops: int,
    local_px: int,
    split_area_ratio: float,
    min_area_ratio: float,
    colour_strength: float,
) -> tuple[list[Tensor], list[Tensor]]:
    """Return two views of each image that show much of it, and small ones that show little.

    The first of the two is always blurred, the second a tenth of the time, and a fifth of the
    time solarised; half of the local ones are blurred.

    Args:
        images_BCHW: the pictures.
        moment: whose randomness it is.
        local_crops: how many local views of each image.
        local_px: their side; the global ones are as large as the image.
        split_area_ratio: the least share of a picture that a global view keeps, and the largest
            that a local one does.
        min_area_ratio: the least share that a local one keeps.
        colour_strength: how far colours are changed; 0 leaves them.
    Reference: Caron et al. 2020, arXiv:2006.09882, section 3.2; blur and solarisation as in
        Grill et al. 2020, arXiv:2006.07733, appendix B.
    """
    first_BCHW, second_BCHW = (
        random_view(
            images_BCHW,
            moment,
            min_area_ratio=split_area_ratio,
            colour_strength=colour_strength,
            blur_ratio=blur_ratio,
        )
        for blur_ratio in (1.0, 0.1)
    )
    second_BCHW = random_solarise(second_BCHW, moment, solarise_ratio=0.2)
    local = [
        random_view(
            images_BCHW,
            moment,
            min_area_ratio=min_area_ratio,
            max_area_ratio=split_area_ratio,
            side_px=local_px,
            colour_strength=colour_strength,
            blur_ratio=0.5,
        )
        for _ in range(local_crops)
    ]
    return [first_BCHW, second_BCHW], local


def random_resized_crop(
    images_BCHW: Tensor,
    moment: Moment,
    *,
    min_area_ratio: float,
    max_area_ratio: float = 1.0,
    side_px: int | None = None,
    max_aspect: float = 1.0,
    flip_ratio: float = 0.0,
) -> Tensor:
    """Cut a random box out of each image, mirror it now and then, and scale it.

    The area is uniform in [min_area_ratio, max_area_ratio] of the image, the logarithm of
    width : height uniform between 1 : max_aspect and max_aspect : 1, a side longer than the image
    is cut to it, the place is uniform. The crop is as large as the image, or a square of side_px.

    Reference: Szegedy et al. 2015, arXiv:1409.4842, section 6.
    """
    size, channels, height, width = images_BCHW.shape
    height, width = side_px or height, side_px or width
    area_B = _uniform(size, moment, min_area_ratio, max_area_ratio)
    stretch_B = _uniform(size, moment, -1.0, 1.0).mul(0.5 * math.log(max_aspect)).exp()
    width_B = (area_B.sqrt() * stretch_B).clamp(max=1.0)
    height_B = (area_B.sqrt() / stretch_B).clamp(max=1.0)
    mirror_B = torch.where(_chosen(size, moment, flip_ratio), -1.0, 1.0)
    box_B23 = images_BCHW.new_zeros(size, 2, 3)
    box_B23[:, 0, 0] = width_B * mirror_B
    box_B23[:, 1, 1] = height_B
    box_B23[:, 0, 2] = _uniform(size, moment, -1.0, 1.0) * (1 - width_B)
    box_B23[:, 1, 2] = _uniform(size, moment, -1.0, 1.0) * (1 - height_B)
    grid_BHW2 = F.affine_grid(box_B23, [size, channels, height, width], align_corners=False)
    return F.grid_sample(images_BCHW, grid_BHW2, padding_mode="border", align_corners=False)


def random_colours(
    images_BCHW: Tensor,
    moment: Moment,
    *,
    strength: float,
    jitter_ratio: float = 0.8,
    grey_ratio: float = 0.2,
) -> Tensor:
    """Jitter brightness, contrast, saturation and hue of some images, and make some grey.

    Factors are uniform in 1 +- 0.8 strength, hues in +- 0.2 strength of a full turn. All five
    are linear in the pixel, so each image is multiplied by one matrix and clamped once.

    Reference: Chen et al. 2020, arXiv:2002.05709, appendix A, in a fixed order and with hue as a
        turn about the grey axis.
    """
    size, reach = len(images_BCHW), 0.8 * strength
    least = max(0.0, 1 - reach)
    brightness_B, contrast_B, saturation_B = (
        _uniform(size, moment, least, 1 + reach) for _ in range(3)
    )
    hue_B = _uniform(size, moment, -0.2 * strength, 0.2 * strength)
    jittered_B = _chosen(size, moment, jitter_ratio)
    same_B = torch.ones_like(hue_B)
    matrix_B33 = colour_matrix(
        torch.where(jittered_B, brightness_B, same_B),
        torch.where(jittered_B, saturation_B, same_B),
        torch.where(jittered_B, hue_B, 0.0),
    )
    contrast_B = torch.where(jittered_B, contrast_B, same_B)
    luma_33 = _constant((LUMA,) * 3, images_BCHW.device)
    grey_B = _chosen(size, moment, grey_ratio)
    matrix_B33 = torch.where(grey_B[:, None, None], luma_33 @ matrix_B33, matrix_B33)
    pixels_BCP = images_BCHW.flatten(2)
    # Contrast is measured from the mean luma of the image as it is after the matrix.
    level_BC1 = luma_33 @ (matrix_B33 @ pixels_BCP.mean(2, keepdim=True))
    mixed_BCP = torch.baddbmm(
        (1 - contrast_B)[:, None, None] * level_BC1,
        contrast_B[:, None, None] * matrix_B33,
        pixels_BCP,
    )
    return mixed_BCP.clamp_(0, 1).view(images_BCHW.shape)


def colour_matrix(brightness_B: Tensor, saturation_B: Tensor, hue_B: Tensor) -> Tensor:
    """Return (B, 3, 3): scale by brightness, mix with luma, turn about the grey axis by hue.

    A hue of 1/3 is a third of a turn: red becomes green, green blue.
    """
    device = hue_B.device
    luma_33 = _constant((LUMA,) * 3, device)
    identity_33 = torch.eye(3, device=device)
    cross_33 = _constant(((0.0, -1, 1), (1, 0, -1), (-1, 1, 0)), device) / math.sqrt(3)
    angle_B11 = 2 * math.pi * hue_B[:, None, None]
    cosine_B11, sine_B11 = angle_B11.cos(), angle_B11.sin()
    turn_B33 = cosine_B11 * identity_33 + sine_B11 * cross_33 + (1 - cosine_B11) / 3
    saturation_B11 = saturation_B[:, None, None]
    mix_B33 = saturation_B11 * identity_33 + (1 - saturation_B11) * luma_33
    return brightness_B[:, None, None] * (turn_B33 @ mix_B33)


def random_blur(images_BCHW: Tensor, moment: Moment, *, blur_ratio: float) -> Tensor:
    """Blur some images with a Gaussian as wide, for the side, as the paper's at 224 px.

    Sigma is uniform in [0.1, 2] x side / 224 px; the kernel spans a tenth of the side.

    Reference: Chen et al. 2020, arXiv:2002.05709, appendix A.
    """
    size, channels, height, width = images_BCHW.shape
    sigma_B = _uniform(size, moment, 0.1, 2.0) * height / 224
    blurred_B = _chosen(size, moment, blur_ratio)
    rows = rows_of(blurred_B)
    chosen_BCHW, sigma_B = images_BCHW[rows], sigma_B[rows]
    if not len(chosen_BCHW):
        return images_BCHW
    reach = math.ceil(height / 20)
    offset_K = torch.arange(-reach, reach + 1, device=sigma_B.device)
    kernel_BK = torch.softmax(-0.5 * (offset_K / sigma_B[:, None]) ** 2, dim=1)
    weight_GK = kernel_BK.repeat_interleave(channels, 0)  # G: every channel of every image
    planes_1GHW = F.pad(chosen_BCHW, [reach] * 4, mode="replicate").flatten(0, 1)[None]
    groups = len(weight_GK)
    planes_1GHW = F.conv2d(planes_1GHW, weight_GK[:, None, :, None], groups=groups)
    planes_1GHW = F.conv2d(planes_1GHW, weight_GK[:, None, None, :], groups=groups)
    result_BCHW = images_BCHW.clone()
    result_BCHW[rows] = planes_1GHW.view(-1, channels, height, width)
    return torch.where(blurred_B[:, None, None, None], result_BCHW, images_BCHW)


def random_solarise(images_BCHW: Tensor, moment: Moment, *, solarise_ratio: float) -> Tensor:
    """Turn the bright values of some images into dark ones: x into 1 - x where it is above 1/2.

    Reference: Grill et al. 2020, arXiv:2006.07733, appendix B.
    """
    chosen_B111 = _chosen(len(images_BCHW), moment, solarise_ratio)[:, None, None, None]
    return torch.where(chosen_B111 & (images_BCHW > 0.5), 1 - images_BCHW, images_BCHW)


@lru_cache
def _constant(rows: tuple[tuple[float, ...], ...], device: torch.device) -> Tensor:
    """Return a matrix that is copied to the device once, as a copy makes the host wait."""
    return torch.tensor(rows, device=device)


def _uniform(size: int, moment: Moment, low: float, high: float) -> Tensor:
    return low + (high - low) * moment.rand(size)


def _chosen(size: int, moment: Moment, ratio: float) -> Tensor:
    return moment.rand(size) < ratio
