"""From light on the sensor to the file: noise, demosaicking, sharpening, resizing, rounding, JPEG.

Pictures are often resized before they are stored. Here the file keeps the size of the light that comes in, and the
sensor has another: light is resampled onto its pixels, developed there, and the picture resampled to the file. So
what belongs to the file (its size, blur radii in its pixels) is the same whatever the factor, while grain, demosaicking
and sharpening come out finer or coarser and details are lost as they are by resizing.
"""

import io
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from optics.light import to_linear, to_srgb

__all__ = ["Camera"]


@dataclass(frozen=True)
class Camera:
    """What a camera does to light. Pictures are float arrays of shape (H, W, 3) in [0, 1].

    Attributes:
        linear: Whether blur mixes linear light; if not, sRGB values as stored.
        highlights: Factor by which light of saturated sRGB values exceeds white, at least 1.
        shot_noise: Variance of the noise per unit of light: photon noise.
        read_noise: Standard deviation of the noise in the dark.
        demosaicking: Standard deviation in pixels of the low-pass that mixes the noise of neighbours.
        sharpening: Amount of unsharp masking.
        sharpening_width: Its standard deviation in pixels.
        resize: Pixels of the file for one of the sensor, along an axis, in [1/4, 4]: below 1 the picture was reduced,
            above enlarged. The pixels of `demosaicking` and `sharpening_width` are the sensor's.
        jpeg_quality: Quality of the JPEG file, or None for one without loss.
    """

    linear: bool = True
    highlights: float = 1.0
    shot_noise: float = 1e-4
    read_noise: float = 0.005
    demosaicking: float = 0.0
    sharpening: float = 0.0
    sharpening_width: float = 1.0
    jpeg_quality: int | None = None
    resize: float = 1.0

    def __post_init__(self) -> None:
        if not 0.25 <= self.resize <= 4:
            raise ValueError(f"resize must be in [0.25, 4], got {self.resize}")

    def light(self, photo: np.ndarray) -> np.ndarray:
        """Light that an sRGB photo stands for; that of clipped pixels was stronger than the file says."""
        import torch

        light = to_linear(torch.from_numpy(photo)).numpy() if self.linear else photo
        if self.highlights > 1:
            brightest = photo.max(axis=2, keepdims=True)
            light = light * (1 + (self.highlights - 1) * np.clip((brightest - 0.97) / 0.03, 0, 1))
        return light

    def develop(self, light: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """The stored picture of light on the sensor, in steps of 1/255."""
        codes = np.rint(255 * self._stored(light, generator)).astype(np.uint8)
        if self.jpeg_quality is not None:
            with io.BytesIO() as file:
                Image.fromarray(codes).save(file, format="JPEG", quality=self.jpeg_quality)
                codes = np.asarray(Image.open(file))
        return codes / 255

    def in_focus(self, photo: np.ndarray) -> np.ndarray:
        """A photo that was never out of focus as this camera stores it, without noise and what rounding and JPEG take.

        This is what can be asked of a restorer, whose result is to go with those parts of the picture that are in
        focus. It cannot know that a camera sharpened; and an enlarged picture has no finer details than its sensor.
        """
        return self._stored(self.light(photo), None)

    def _stored(self, light: np.ndarray, generator: np.random.Generator | None) -> np.ndarray:
        """The picture of light on the sensor before it is rounded; without noise if there is no generator."""
        import torch

        size = light.shape[:2]
        sensor = tuple(max(round(side / self.resize), 1) for side in size)
        # The sharpest filter, for it is to add no blur, on clipped light, for it rings; files get the commonest.
        light = np.clip(_resampled(np.clip(light, 0, 1), sensor, Image.Resampling.LANCZOS), 0, 1)
        if generator is not None:
            noise = generator.standard_normal(light.shape) * np.sqrt(self.shot_noise * light + self.read_noise**2)
            if self.demosaicking:
                noise = gaussian_filter(noise, (self.demosaicking, self.demosaicking, 0))
            light = np.clip(light + noise, 0, 1)
        photo = to_srgb(torch.from_numpy(light)).numpy() if self.linear else light
        return np.clip(_resampled(self._sharpened(photo), size, Image.Resampling.BICUBIC), 0, 1)

    def _sharpened(self, photo: np.ndarray) -> np.ndarray:
        """Unsharp masking, clipped to [0, 1]."""
        if self.sharpening:
            widths = self.sharpening_width, self.sharpening_width, 0
            photo = photo + self.sharpening * (photo - gaussian_filter(photo, widths))
        return np.clip(photo, 0, 1)


def _resampled(picture: np.ndarray, size: tuple[int, int], kernel: Image.Resampling) -> np.ndarray:
    """Resamples a picture (H, W, C), without aliases where it shrinks; the same array where it has that size."""
    if picture.shape[:2] == size:
        return picture
    channels = (Image.fromarray(channel.astype(np.float32)) for channel in np.moveaxis(picture, 2, 0))
    return np.stack([np.asarray(channel.resize(size[::-1], kernel)) for channel in channels], axis=2)
