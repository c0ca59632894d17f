"""PSNR after the reference was brought into line with the result, for captures that are not aligned.

Two shots of one scene never agree to the pixel. The plain figure counts that as error; these two do not, and are
reported beside it under their own names. It is the reference that is warped, by splines of degree 5: softer
interpolation blurs it and rewards blurred results. Three sharp photos, moved by a fraction of a pixel and blurred by
a Gaussian of 2 pixels, still gain 0.1 to 0.3 dB so; with cubic splines up to 0.5, with linear interpolation 1 more.

- `shift`: one translation for the whole picture. It minimises the squared error that the figure then measures, by
  Gauss-Newton steps (Lucas and Kanade) from the peak of the cross-correlation. On those photos it is right to 0.01
  pixels, blurred by 2 pixels to 0.03, by 4 to 0.13. Phase correlation weighs all frequencies alike, those that a
  blurred picture has lost included, and errs there by 0.2 to 5 pixels.
- `flow`: a displacement per pixel, as JDRL evaluates on SDD. Theirs comes from PWC-Net and is applied with linear
  interpolation; this one is scikit-image's iterative Lucas-Kanade in windows of 31 pixels. A flow of finer detail
  explains blur as displacement: on aligned photos scikit-image's TV-L1 raised the PSNR of a copy blurred by 2 pixels by
  1.6 dB, this one by at most 0.1. It still adds 0.6 dB to aligned captures with much defocus (20 of LFSD), the shift
  0.01: read gains over the input under the same figure, and compare with this definition alone.

References:
    Lucas and Kanade, An iterative image registration technique with an application to stereo vision, IJCAI 1981.
    Le Besnerais and Champagnat, Dense optical flow by iterative local window registration, ICIP 2005.
    Li et al., Learning single image defocus deblurring with misaligned training pairs (JDRL), AAAI 2023.
"""

import importlib.util
import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from evaluation.metrics.fidelity import psnr, require_pair

__all__ = ["align_shift", "flow_reason", "flow_warped_reference", "psnr_flow_aligned", "psnr_shift_aligned"]

_LARGEST = 16
_SMALLEST_SIDE = 2 * _LARGEST + 16
_STEPS, _TOLERANCE = 20, 1e-3
_DEGREE = 5


def align_shift(x: Tensor, reference: Tensor) -> tuple[float, float]:
    """Translation of the picture against its reference: x(p) is reference(p - shift), as nearly as a shift can.

    Args:
        x: Picture in [0, 1], shape (1, C, H, W), at least 48 pixels a side.
        reference: What it should be, same shape.

    Returns:
        Rows and columns by which the picture's content lies further down and to the right, at most 16 pixels each.
        (0, 0) where no shift makes the squared error smaller.

    Raises:
        ValueError: If the pictures differ in shape or are too small.
    """
    require_pair(x, reference)
    if min(x.shape[-2:]) < _SMALLEST_SIDE:
        raise ValueError(f"alignment needs pictures of at least {_SMALLEST_SIDE} pixels a side, got {tuple(x.shape)}")
    # One kind of smoothing for both: the gradient of a picture at its finest detail is no slope to step along.
    target, source = (ndimage.gaussian_filter(_grey(picture), 1.0) for picture in (x, reference))
    shift = _correlation_peak(target, source)
    for _ in range(_STEPS):
        step = _gauss_newton_step(target, source, shift)
        shift = np.clip(shift + step, -_LARGEST, _LARGEST)
        if np.abs(step).max() < _TOLERANCE:
            break
    inner = np.s_[_LARGEST:-_LARGEST, _LARGEST:-_LARGEST]
    before, after = (np.square(target - _shifted(source, by))[inner].mean() for by in (np.zeros(2), shift))
    return (float(shift[0]), float(shift[1])) if after < before else (0.0, 0.0)


def psnr_shift_aligned(x: Tensor, reference: Tensor) -> float:
    """PSNR in dB against the reference shifted by `align_shift`, over the pixels that it reaches.

    Args:
        x: Picture in [0, 1], shape (1, C, H, W), at least 48 pixels a side.
        reference: What it should be, same shape.

    Raises:
        ValueError: If the pictures differ in shape or are too small.
    """
    shift = align_shift(x, reference)
    if shift == (0.0, 0.0):
        return psnr(x, reference)
    moved = np.stack([_shifted(channel, np.array(shift), _DEGREE) for channel in _array(reference)])
    rows, columns = (
        slice(max(0, math.ceil(by)), side + min(0, math.floor(by)))
        for by, side in zip(shift, x.shape[-2:], strict=True)
    )
    return psnr(x[..., rows, columns], _picture(moved, x)[..., rows, columns])


def flow_warped_reference(x: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """The reference warped to the picture by optical flow. Needs scikit-image, see `flow_reason`.

    Args:
        x: Picture in [0, 1], shape (1, C, H, W).
        reference: What it should be, same shape.

    Returns:
        The warped reference in [0, 1], shape (1, C, H, W), float64, and the pixels whose source lies inside the
        reference, bool, shape (1, 1, H, W).

    Raises:
        ValueError: If the pictures differ in shape.
    """
    require_pair(x, reference)
    from skimage.registration import optical_flow_ilk

    flow = optical_flow_ilk(_grey(x), _grey(reference), radius=15, dtype=np.float64)
    source = np.indices(flow.shape[1:]) + flow
    channels = _array(reference)
    warped = np.stack([ndimage.map_coordinates(channel, source, order=_DEGREE, mode="mirror") for channel in channels])
    last = np.array(flow.shape[1:])[:, None, None] - 1
    valid = ((source >= 0) & (source <= last)).all(axis=0)
    return _picture(warped, x), torch.from_numpy(valid).to(x.device)[None, None]


def psnr_flow_aligned(x: Tensor, reference: Tensor) -> float:
    """PSNR in dB against `flow_warped_reference`, over its valid pixels. Needs scikit-image, see `flow_reason`.

    Args:
        x: Picture in [0, 1], shape (1, C, H, W).
        reference: What it should be, same shape.

    Raises:
        ValueError: If the pictures differ in shape.
    """
    warped, valid = flow_warped_reference(x, reference)
    return psnr(x[..., valid[0, 0]][..., None], warped[..., valid[0, 0]][..., None])


def flow_reason() -> str | None:
    """Why the flow cannot be computed here; None if it can."""
    return None if importlib.util.find_spec("skimage") else "scikit-image, which computes the flow, is not installed"


def _correlation_peak(target: np.ndarray, source: np.ndarray) -> np.ndarray:
    """Whole pixels of shift, at most `_LARGEST`, with the largest cross-correlation under a Hann window."""
    window = np.outer(*(np.hanning(side) for side in target.shape))
    spectra = [np.fft.rfft2((picture - picture.mean()) * window) for picture in (target, source)]
    correlation = np.fft.irfft2(spectra[0] * spectra[1].conj(), s=target.shape)
    shifts = np.arange(-_LARGEST, _LARGEST + 1)
    near = correlation[shifts[:, None], shifts]
    return shifts[np.array(np.unravel_index(near.argmax(), near.shape))].astype(float)


def _gauss_newton_step(target: np.ndarray, source: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Least-squares change of the shift, from the pixels that every allowed shift reaches."""
    moved = _shifted(source, shift)
    inner = np.s_[_LARGEST:-_LARGEST, _LARGEST:-_LARGEST]
    slopes = np.stack([slope[inner].ravel() for slope in np.gradient(moved)])  # (2, pixels)
    # A further shift by d changes the picture by -slope * d. The pseudo-inverse leaves alone what a picture
    # without structure along a direction cannot tell.
    return -np.linalg.pinv(slopes @ slopes.T, rcond=1e-6) @ slopes @ (target - moved)[inner].ravel()


def _shifted(picture: np.ndarray, shift: np.ndarray, degree: int = 3) -> np.ndarray:
    return ndimage.shift(picture, shift, order=degree, mode="mirror")


def _grey(picture: Tensor) -> np.ndarray:
    return _array(picture).mean(axis=0)


def _array(picture: Tensor) -> np.ndarray:
    return picture[0].double().cpu().numpy()


def _picture(array: np.ndarray, like: Tensor) -> Tensor:
    """(C, H, W) -> (1, C, H, W) in [0, 1]: splines overshoot at edges."""
    return torch.from_numpy(array).clamp(0, 1)[None].to(like.device)
