"""Captures from sharp photos: random scenes, apertures and cameras, wide enough to hold real ones.

    y = camera( C_n ),   C_l = h_l * (m_l x_l) + (1 - h_l * m_l) C_{l-1}

Layers l are composed back to front; m_l is where a layer is, x_l what it shows, filled in where another
stands before it, and h_l * its blur, whose radius may vary within the layer. That light is hidden by what
stands in front is what tells this from the operator of a restorer, which gathers from one plane. Layers may also
show photos of their own, whole: a thing in front of another, whose border is one of the picture too.

References:
    Ikoma et al., Depth from Defocus with Learned Optics for Imaging and Occlusion-aware Depth Estimation,
    ICCP 2021 (layered composition).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

import numpy as np
import torch
from scipy.fft import next_fast_len
from scipy.ndimage import gaussian_filter
from torch import Tensor

from optics.aperture import Aperture, aperture_psf
from optics.camera import Camera
from optics.scenes import Layer, random_layers

__all__ = ["SIMULATOR", "SimulatedCapture", "Simulator", "compose"]

SIMULATOR = 4
"""Generation of the simulator: one more whenever a photo and a seed give another capture than before."""


@dataclass(frozen=True)
class SimulatedCapture:
    """A simulated capture and what it was made from.

    Attributes:
        y: Capture in steps of 1/255, float32, shape (3, H, W).
        x: The photo in focus, as the same camera stores it, in [0, 1], same shape.
        radius_map: Blur radius in pixels of what is in front at each pixel, shape (1, H, W).
        aperture: Shape of the PSF.
        camera: What the camera did.
    """

    y: Tensor
    x: Tensor
    radius_map: Tensor
    aperture: Aperture
    camera: Camera


@dataclass(frozen=True)
class Simulator:
    """Draws scene, aperture and camera at random and takes the picture.

    Attributes:
        largest_radius: In pixels.
        matched: Whether to keep to the restorer's world: one layer, disks, white noise of 0.01, sRGB values.
        chromatic: Largest relative difference of the radii of red and blue to green's.
        outlined: Share of scenes whose layers end at edges of the photo, as things do, and not anywhere.
    """

    largest_radius: float = 8.0
    matched: bool = False
    chromatic: float = 0.06
    outlined: float = 0.0

    @property
    def margin(self) -> int:
        """Pixels around the capture that the sharp photo must have: no PSF reaches farther."""
        return math.ceil(2.2 * self.largest_radius) + 2

    def __call__(
        self, photo: Tensor, generator: np.random.Generator, in_front: Sequence[Tensor] = ()
    ) -> SimulatedCapture:
        """Takes a picture of a sharp photo.

        Args:
            photo: Sharp photo in [0, 1] sRGB, shape (3, H + 2 margin, W + 2 margin).
            generator: Source of randomness.
            in_front: Sharp photos that the layers in front show, in turn, of the same shape; none shows the one photo
                on all of them.

        Raises:
            ValueError: If the photo is not larger than its margins, or one in front has another shape.
        """
        scene = self.scene(photo, generator, in_front)
        chromatic = 0.0 if self.matched else generator.uniform(-1, 1) * self.chromatic
        camera = scene.camera
        light = [camera.light(shown) for shown in scene.photos] if in_front else camera.light(scene.photos[0])
        light = compose(light, scene.layers, scene.aperture, (1 + chromatic, 1.0, 1 - chromatic))
        inner = slice(self.margin, -self.margin)
        y = camera.develop(light[inner, inner], generator)
        radius = visible_radius(scene.layers)[inner, inner]
        return SimulatedCapture(
            torch.from_numpy(y.transpose(2, 0, 1).astype(np.float32)), self.in_focus(scene),
            torch.from_numpy(radius.astype(np.float32))[None], scene.aperture, camera,
        )  # fmt: skip

    def scene(self, photo: Tensor, generator: np.random.Generator, in_front: Sequence[Tensor] = ()) -> "Scene":
        """What a picture is taken of, drawn first; arguments and errors as of `__call__`."""
        size = tuple(photo.shape[1:])
        if photo.dim() != 3 or len(photo) != 3 or min(size) <= 2 * self.margin:
            raise ValueError(f"expected a photo of shape (3, H, W) larger than {2 * self.margin}, got {tuple(size)}")
        if any(shown.shape != photo.shape for shown in in_front):
            shapes = [tuple(shown.shape) for shown in in_front]
            raise ValueError(f"expected photos in front of shape {tuple(photo.shape)}, got {shapes}")
        aperture, camera = self.equipment(generator)
        sharp, *others = (shown.permute(1, 2, 0).double().numpy() for shown in (photo, *in_front))
        # Drawn only where it matters, so that captures without are what they were.
        outlined = self.outlined > 0 and _own_stream(generator).random() < self.outlined
        fewest, others = (2, others) if others else (1, [sharp])
        layers = random_layers(size, self.largest_radius, generator, others if outlined else (), fewest)
        layers = layers[: 1 if self.matched else None]
        return Scene([sharp, *(shown for _, shown in zip(layers[1:], cycle(others)))], layers, aperture, camera)

    def equipment(self, generator: np.random.Generator) -> tuple[Aperture, Camera]:
        """Lens and camera of a picture, the first that is drawn for it."""
        if self.matched:
            return Aperture(), Camera(linear=False, shot_noise=0.0, read_noise=0.01)
        return random_aperture(generator), random_camera(generator)

    def in_focus(self, scene: "Scene") -> Tensor:
        """A scene in focus, as its camera stores it and without the margins: (3, H, W) in [0, 1]."""
        inner = slice(self.margin, -self.margin)
        picture = scene.camera.in_focus(scene.in_focus())[inner, inner]
        return torch.from_numpy(picture.transpose(2, 0, 1).astype(np.float32))


@dataclass(frozen=True)
class Scene:
    """What a picture is taken of, and with what.

    Attributes:
        photos: What each layer shows, sRGB values in [0, 1], shape (H, W, 3) each.
        layers: Back to front.
        aperture: Shape of the PSF.
        camera: What the camera does.
    """

    photos: list[np.ndarray]
    layers: list[Layer]
    aperture: Aperture
    camera: Camera

    def in_focus(self) -> np.ndarray:
        """What is seen where nothing is out of focus, sRGB values of shape (H, W, 3)."""
        picture, *in_front = self.photos
        for shown, layer in zip(in_front, self.layers[1:], strict=True):
            picture = picture + layer.mask[..., None] * (shown - picture)
        return picture


def compose(
    light: np.ndarray | list[np.ndarray], layers: list[Layer], aperture: Aperture,
    channel_scales: tuple[float, ...] = (1.0, 1.0, 1.0),
) -> np.ndarray:  # fmt: skip
    """Light on the sensor: layers blurred one by one and laid over each other.

    Args:
        light: Light of the sharp scene, shape (H, W, C), which is continued behind what stands in front; or of each
            layer, whole. Beyond the border it continues by reflection.
        layers: Back to front, each of shape (H, W).
        aperture: Shape of the PSF.
        channel_scales: Factor of the blur radius in each channel.

    Returns:
        Array of shape (H, W, C).
    """
    result = None
    contents = light if isinstance(light, list) else _contents(light, layers)
    for layer, content in zip(layers, contents, strict=True):
        picture = np.empty_like(content)
        for channel, scale in enumerate(channel_scales):
            stack = np.stack([layer.mask * content[..., channel], layer.mask])
            blurred, alpha = _blur(stack, scale * layer.radius, aperture)
            picture[..., channel] = blurred if result is None else blurred + (1 - alpha) * result[..., channel]
        result = picture
    return result


def visible_radius(layers: list[Layer]) -> np.ndarray:
    """Blur radius in pixels of the front layer at each pixel, shape (H, W)."""
    radius = layers[0].radius
    for layer in layers[1:]:
        radius = np.where(layer.mask > 0.5, layer.radius, radius)
    return radius


def random_aperture(generator: np.random.Generator) -> Aperture:
    """A shape that a lens may have: mostly round and a little soft."""
    aperture = Aperture(
        softness=float(generator.choice([0.0, generator.uniform(0.02, 0.6), 1.0], p=[0.2, 0.65, 0.15])),
        rotation=generator.uniform(0, 2 * math.pi),
    )
    if generator.random() < 0.3:
        aperture = replace(aperture, blades=int(generator.integers(5, 10)))
    if generator.random() < 0.25:
        aperture = replace(aperture, cut=generator.uniform(0.1, 0.9))
    if generator.random() < 0.3:
        aperture = replace(aperture, rim=generator.uniform(0.4, 2.0))
    if generator.random() < 0.3:
        aperture = replace(aperture, stretch=math.exp(generator.uniform(-0.15, 0.15)))
    own = _own_stream(generator)
    if own.random() < 0.3:
        aperture = replace(aperture, coma=own.uniform(0.03, 0.25))
    return aperture


def random_camera(generator: np.random.Generator) -> Camera:
    """A camera and a file as they come: most pictures are linear light, sharpened a little, and JPEG."""
    read_noise = math.exp(generator.uniform(math.log(0.0005), math.log(0.015)))
    camera = Camera(
        linear=bool(generator.random() < 0.7),
        highlights=generator.uniform(1, 4) if generator.random() < 0.5 else 1.0,
        shot_noise=math.exp(generator.uniform(math.log(2e-5), math.log(1e-3))),
        read_noise=read_noise,
        demosaicking=generator.uniform(0.3, 0.8) if generator.random() < 0.6 else 0.0,
        sharpening=generator.uniform(0.1, 0.9) if generator.random() < 0.4 else 0.0,
        sharpening_width=generator.uniform(0.6, 1.6),
        jpeg_quality=int(generator.integers(60, 99)) if generator.random() < 0.6 else None,
    )
    own = _own_stream(generator)
    if own.random() < 0.35:
        # Reduced for the screen as often as enlarged, as light field cameras do: down to a half, up to twice.
        camera = replace(camera, resize=own.uniform(0.5, 1) if own.random() < 0.5 else own.uniform(1, 2))
    return camera


def _own_stream(generator: np.random.Generator) -> np.random.Generator:
    """A stream beside that of the generator, whose further draws are the same whatever is taken from it."""
    return generator.spawn(1)[0]


def _contents(light: np.ndarray, layers: list[Layer]) -> list[np.ndarray]:
    """What each layer of one scene shows, continued behind the layers in front of it."""
    hidden = np.zeros(light.shape[:2])
    contents = []
    for layer in reversed(layers):
        contents.append(_filled(light, hidden))
        hidden = np.maximum(hidden, layer.mask)
    return contents[::-1]


def _filled(light: np.ndarray, hidden: np.ndarray) -> np.ndarray:
    """Continues what is seen into what is hidden, from near to far."""
    if not hidden.any():
        return light
    seen = (1 - hidden)[..., None]
    filled = light * seen
    weight = seen.copy()
    for width in (2.0, 6.0, 18.0, 54.0):
        spread, share = (gaussian_filter(part, (width, width, 0), mode="reflect") for part in (light * seen, seen))
        filled = filled + (1 - weight) * spread / np.maximum(share, 1e-6) * (share > 1e-3)
        weight = weight + (1 - weight) * (share > 1e-3)
    return filled


def _blur(stack: np.ndarray, radius: np.ndarray, aperture: Aperture) -> np.ndarray:
    """Gathers each pixel with the PSF of its own radius: (N, H, W), (H, W) -> (N, H, W).

    Radii between two nodes mix their blurs; nodes are a quarter of a pixel apart, or 6 % where that is more.
    """
    smallest, largest = float(radius.min()), float(radius.max())
    nodes = [smallest]
    while nodes[-1] < largest:
        nodes.append(min(nodes[-1] + max(0.25, 0.06 * nodes[-1]), largest))
    psfs = [aperture_psf(aperture, node) for node in nodes]
    reach = max(len(psf) for psf in psfs) // 2
    padded = np.pad(stack, ((0, 0), (reach, reach), (reach, reach)), mode="reflect")
    shape = tuple(next_fast_len(side, real=True) for side in padded.shape[1:])
    spectrum = torch.fft.rfft2(torch.from_numpy(padded).float(), s=shape)
    result = np.zeros_like(stack)
    height, width = radius.shape
    for index, (node, psf) in enumerate(zip(nodes, psfs, strict=True)):
        weight = np.ones_like(radius)
        if index > 0:
            weight = np.clip((radius - nodes[index - 1]) / (node - nodes[index - 1]), 0, 1)
        if index + 1 < len(nodes):
            weight = np.minimum(weight, np.clip((nodes[index + 1] - radius) / (nodes[index + 1] - node), 0, 1))
        side = len(psf) // 2
        kernel = torch.zeros(shape)
        kernel[: len(psf), : len(psf)] = psf.float()
        transfer = torch.fft.rfft2(kernel.roll((-side, -side), (0, 1)))
        blurred = torch.fft.irfft2(spectrum * transfer, s=shape)[:, reach : reach + height, reach : reach + width]
        result += weight * blurred.numpy()
    return result
