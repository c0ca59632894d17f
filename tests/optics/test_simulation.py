"""Simulated captures: thin lens, layers, camera, and what must stay as it is."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import convolve, gaussian_gradient_magnitude

from optics.aperture import Aperture, aperture_psf
from optics.camera import Camera
from optics.scenes import Layer, depth_layers, fill_unknown, random_layers, thin_lens_radius
from optics.simulation import Simulator, compose, random_aperture, random_camera, visible_radius

SIZE = (48, 56)


@pytest.fixture
def light():
    return np.random.default_rng(0).random((*SIZE, 3))


def test_unknown_distances_are_those_of_the_nearest_pixel_that_has_one():
    rng = np.random.default_rng(3)
    depth = rng.random((9, 11))
    depth[rng.random(depth.shape) < 0.7], depth[2, 3] = np.nan, np.inf
    filled, known = fill_unknown(depth), np.argwhere(~np.isnan(depth))
    for place in np.ndindex(depth.shape):
        distances = np.square(known - place).sum(1)
        # Of several that are equally near, any.
        assert filled[place] in [depth[tuple(one)] for one in known[distances == distances.min()]]


def test_thin_lens_is_that_of_the_lens_equation():
    focal_length, f_number, pitch, focus = 0.05, 1.8, 5e-6, 2.0
    depth = np.array([0.7, 2.0, 5.0, np.inf])
    # Image distances from 1/f = 1/d + 1/d'; similar triangles behind the pupil give the circle on the sensor.
    image, sensor = 1 / (1 / focal_length - 1 / depth), 1 / (1 / focal_length - 1 / focus)
    expected = focal_length / f_number / 2 * (sensor - image) / image / pitch
    got = thin_lens_radius(depth, focus, focal_length, f_number, pitch)
    assert got == pytest.approx(expected) and got[1] == 0 and got[0] < 0 < got[2]
    with pytest.raises(ValueError, match="farther than the focal length"):
        thin_lens_radius(depth, 0.04, focal_length, f_number, pitch)


def test_depth_layers_cover_the_scene_back_to_front():
    signed = np.linspace(-3, 6, SIZE[0] * SIZE[1]).reshape(SIZE)
    layers = depth_layers(signed, 3)
    assert len(layers) == 3 and (layers[0].mask == 1).all()
    assert np.abs(visible_radius(layers) - np.abs(signed)).max() < 1e-12
    assert [layer.mask.sum() for layer in layers] == sorted((layer.mask.sum() for layer in layers), reverse=True)


def test_flat_light_stays_flat_whatever_the_scene():
    generator = np.random.default_rng(3)
    flat = np.full((*SIZE, 3), 0.37)
    for _ in range(6):
        layers = random_layers(SIZE, 5.0, generator)
        assert np.abs(compose(flat, layers, Aperture(softness=0.2, blades=6), (1.05, 1, 0.95)) - 0.37).max() < 1e-5


def test_layers_that_are_told_to_end_where_the_photo_has_edges():
    """A photo of two halves that meet along a wave: borders of layers follow the wave, and others do not."""
    row, column = np.mgrid[:96, :96]
    photo = np.where(row > 48 + 12 * np.sin(column / 14), 0.8, 0.2)[..., None].repeat(3, 2)
    near_edge = gaussian_gradient_magnitude(photo[..., 0], 1.5) > 0.02
    shares = []
    for shown in ([photo], []):
        borders = [
            gaussian_gradient_magnitude(layer.mask, 1) > 0.1
            for seed in range(30)
            for layer in random_layers(near_edge.shape, 5.0, np.random.default_rng(seed), shown)[1:]
        ]
        assert len(borders) > 10
        shares.append(sum((border & near_edge).sum() for border in borders) / sum(border.sum() for border in borders))
    assert shares[0] > 2.5 * shares[1]


def test_outlines_change_neither_lens_nor_camera():
    photo = torch.rand(3, 60, 60, generator=torch.Generator().manual_seed(0))
    plain, outlined = (
        [Simulator(2.0, outlined=share)(photo, np.random.default_rng(seed)) for seed in range(6)] for share in (0, 1)
    )
    for one, other in zip(plain, outlined, strict=True):
        assert one.aperture == other.aperture and one.camera == other.camera
    assert any(not torch.equal(one.radius_map, other.radius_map) for one, other in zip(plain, outlined, strict=True))


def test_one_layer_of_one_radius_is_a_convolution(light):
    aperture = Aperture(blades=5, softness=0.1)
    got = compose(light, [Layer(np.ones(SIZE), np.full(SIZE, 2.7))], aperture)
    psf = aperture_psf(aperture, 2.7).numpy()
    assert np.abs(got - convolve(light, psf[..., None], mode="mirror")).max() < 1e-5


def test_between_nodes_the_blur_is_nearly_that_of_its_own_radius(light):
    ramp = np.broadcast_to(np.linspace(0.5, 4.5, SIZE[1]), SIZE)
    got = compose(light, [Layer(np.ones(SIZE), ramp)], Aperture())
    for column in (5, 20, 41):
        own = convolve(light, aperture_psf(Aperture(), float(ramp[0, column])).numpy()[..., None], mode="mirror")
        # White noise is the hardest picture to interpolate in; a node off changes it by 0.2 and more.
        assert np.abs(got[:, column] - own[:, column]).max() < 0.06


def test_what_stands_in_front_hides_what_is_behind():
    """A blurred dark half-plane before a sharp bright ground: its matte is its blurred outline."""
    mask = np.zeros(SIZE)
    mask[:, 28:] = 1
    light = np.where(mask, 0.2, 1.0)[..., None] * np.ones(3)
    layers = [Layer(np.ones(SIZE), np.zeros(SIZE)), Layer(mask, np.full(SIZE, 3.0))]
    got = compose(light, layers, Aperture())
    matte = convolve(mask, aperture_psf(Aperture(), 3.0).numpy(), mode="mirror")
    # Filling the dark layer beyond its outline and the bright one behind it is exact for flat layers.
    assert np.abs(got[..., 0] - (0.2 * matte + 1.0 * (1 - matte))).max() < 0.02
    # A sharp dark half-plane before a blurred ground keeps its outline.
    layers = [Layer(np.ones(SIZE), np.full(SIZE, 3.0)), Layer(mask, np.zeros(SIZE))]
    assert np.abs(compose(light, layers, Aperture())[..., 0] - light[..., 0]).max() < 0.02


def test_layers_with_light_of_their_own_are_laid_over_each_other(light):
    """Two unlike pictures, the one in front out of focus: the one behind is seen whole through its blurred border."""
    mask = np.zeros(SIZE)
    mask[:, 28:] = 1
    own = np.random.default_rng(1).random(light.shape)
    layers = [Layer(np.ones(SIZE), np.zeros(SIZE)), Layer(mask, np.full(SIZE, 3.0))]
    psf = aperture_psf(Aperture(), 3.0).numpy()
    matte = convolve(mask, psf, mode="mirror")[..., None]
    expected = convolve(mask[..., None] * own, psf[..., None], mode="mirror") + (1 - matte) * light
    assert np.abs(compose([light, own], layers, Aperture()) - expected).max() < 1e-5


def test_photos_in_front_are_seen_within_their_layers():
    simulator = Simulator(largest_radius=3.0, outlined=0.5)
    size = (3, 48 + 2 * simulator.margin, 52 + 2 * simulator.margin)
    generator = torch.Generator().manual_seed(0)
    back, *in_front = (level + 0.1 * torch.rand(size, generator=generator) for level in (0.1, 0.4, 0.7))
    seen = np.zeros(3, int)
    for seed in range(20):
        capture = simulator(back, np.random.default_rng(seed), in_front)
        scene = simulator.scene(back, np.random.default_rng(seed), in_front)
        assert 2 <= len(scene.layers) == len(scene.photos) <= 3
        assert torch.equal(capture.x, simulator.in_focus(scene))
        assert capture.aperture == simulator(back, np.random.default_rng(seed)).aperture
        if scene.camera.sharpening == 0:
            # Each pixel is that of the last layer that covers it.
            whole = scene.in_focus()
            for index, layer in enumerate(scene.layers):
                alone = (layer.mask == 1) & np.all([front.mask == 0 for front in scene.layers[index + 1 :]], axis=0)
                photo = [back, *in_front][index].permute(1, 2, 0).double().numpy()
                assert np.array_equal(whole[alone], photo[alone])
                seen[index] += alone.sum()
    assert (seen > 1000).all()
    with pytest.raises(ValueError, match="photos in front of shape"):
        simulator(back, np.random.default_rng(0), [in_front[0][:, 1:]])


def test_a_camera_without_faults_stores_the_photo():
    codes = np.random.default_rng(1).integers(0, 256, (*SIZE, 3))
    for linear in (False, True):
        camera = Camera(linear=linear, shot_noise=0, read_noise=0)
        assert (np.rint(255 * camera.develop(camera.light(codes / 255), np.random.default_rng(0))) == codes).all()


def test_noise_is_that_of_photons_and_readout():
    camera = Camera(linear=False, shot_noise=4e-4, read_noise=0.02)
    flat = np.full((300, 300, 3), 0.5)
    stored = camera.develop(flat, np.random.default_rng(0))
    # Rounding to 8 bits adds 1/12 of a code.
    assert stored.var() == pytest.approx(4e-4 * 0.5 + 0.02**2 + 1 / 12 / 255**2, rel=0.02)


def test_demosaicking_mixes_the_noise_of_neighbours():
    flat = np.full((200, 200, 3), 0.5)
    residual = Camera(linear=False, demosaicking=0.7).develop(flat, np.random.default_rng(0)) - 0.5
    neighbours = (residual[:, 1:] * residual[:, :-1]).mean() / residual.var()
    assert neighbours > 0.3


def test_sharpening_overshoots_and_jpeg_loses():
    edge = np.full((*SIZE, 3), 0.3)
    edge[:, 28:] = 0.7
    plain = Camera(linear=False, shot_noise=0, read_noise=0)
    sharpened = Camera(linear=False, shot_noise=0, read_noise=0, sharpening=0.8)
    assert sharpened.develop(edge, np.random.default_rng(0)).max() > 0.75 > plain.develop(
        edge, np.random.default_rng(0)
    ).max()
    photo = np.random.default_rng(2).random((*SIZE, 3))
    jpeg = Camera(linear=False, shot_noise=0, read_noise=0, jpeg_quality=70).develop(photo, np.random.default_rng(0))
    assert 0.02 < np.abs(jpeg - photo).mean() < 0.5


@pytest.mark.parametrize("resize", [0.5, 0.77, 1.0, 1.3, 2.0])
def test_a_resized_picture_keeps_flat_light_and_coarse_detail_and_loses_what_its_sensor_cannot_hold(resize):
    camera = Camera(linear=False, shot_noise=0, read_noise=0, resize=resize)
    assert (np.rint(255 * camera.develop(np.full((37, 52, 3), 0.4), np.random.default_rng(0))) == 102).all()
    column = np.arange(160)
    for frequency in (0.04, 0.42):
        wave = np.cos(2 * math.pi * frequency * column)
        stored = camera.develop(np.broadcast_to(0.5 + 0.4 * wave[:, None], (40, 160, 3)), np.random.default_rng(0))
        inner = np.s_[20, 20:-20, 0]
        kept = 2 * np.abs((stored[inner] - 0.5) @ np.exp(-2j * math.pi * frequency * column[20:-20])) / 120 / 0.4
        if frequency < 0.1:
            assert kept == pytest.approx(1, abs=0.04)
        elif resize > 1:
            # A sensor of 1 / resize pixels for each of the file ends at 0.5 / resize, 0.385 and 0.25; filters as short
            # as these fall off slowly beyond.
            assert kept < 0.2
        else:
            assert (kept == pytest.approx(1, abs=0.02)) if resize == 1 else 0.1 < kept < 0.9


@pytest.mark.parametrize("resize", [0.6, 1.5])
def test_blur_has_the_same_place_and_radius_in_a_resized_picture(resize):
    edge = np.zeros((48, 96, 3))
    edge[:, 48:] = 1
    light = 0.2 + 0.6 * compose(edge, [Layer(np.ones((48, 96)), np.full((48, 96), 5.0))], Aperture())
    for factor in (1.0, resize):
        camera = Camera(linear=False, shot_noise=0, read_noise=0, resize=factor)
        spread = np.diff(camera.develop(light, np.random.default_rng(0))[24, :, 0])[20:-20] / 0.6
        place = np.arange(len(spread)) - len(spread) // 2
        assert spread.sum() == pytest.approx(1, abs=0.02) and (spread * place).sum() == pytest.approx(0, abs=0.06)
        # A disk's spread of a line has the variance r^2 / 4; interpolation by cubics adds none to it.
        assert 2 * math.sqrt((spread * place**2).sum()) == pytest.approx(5.0, rel=0.03)


def test_noise_is_finer_in_reduced_pictures_and_coarser_in_enlarged_ones():
    flat = np.full((240, 240, 3), 0.5)
    stds, correlations = [], []
    for resize in (0.5, 1.0, 1.6):
        camera = Camera(linear=False, shot_noise=0, read_noise=0.05, resize=resize)
        noise = camera.develop(flat, np.random.default_rng(0)) - 0.5
        stds.append(noise.std())
        correlations.append((noise[:, 1:] * noise[:, :-1]).mean() / noise.var())
    # Half the size is a mean of about 4 pixels, less sharp than a box of 2 x 2.
    assert stds[0] / stds[1] == pytest.approx(0.45, abs=0.06) and stds[2] < stds[1]
    assert abs(correlations[0]) < 0.25 and abs(correlations[1]) < 0.02 and correlations[2] > 0.4
    with pytest.raises(ValueError, match="resize must be in"):
        Camera(resize=0.1)


def test_faults_have_a_stream_of_their_own_and_stay_within_the_margin():
    """Another stream of coma and resizing changes neither what else is drawn nor what is drawn after."""
    comas, factors = [], []
    simulator = Simulator()
    for seed in range(60):
        generators = [np.random.default_rng(seed) for _ in range(2)]
        generators[1].spawn(1)
        apertures, cameras = ([draw(g) for g in generators] for draw in (random_aperture, random_camera))
        assert replace(apertures[0], coma=0) == replace(apertures[1], coma=0)
        assert replace(cameras[0], resize=1) == replace(cameras[1], resize=1)
        assert generators[0].random() == generators[1].random()
        comas += [aperture.coma for aperture in apertures]
        factors += [camera.resize for camera in cameras]
        psf = aperture_psf(apertures[0], 1.06 * simulator.largest_radius).numpy()
        beyond = max(len(psf) // 2 - simulator.margin, 0)
        assert psf[beyond : len(psf) - beyond, beyond : len(psf) - beyond].sum() > 0.999
    assert comas[::2] != comas[1::2] and factors[::2] != factors[1::2]
    assert 0.1 < np.mean(np.array(comas) > 0) < 0.5 and max(comas) <= 0.25
    factors = np.array(factors)
    assert 0.05 < np.mean(factors < 1) < 0.3 and 0.05 < np.mean(factors > 1) < 0.3 and 1.6 < factors.max() <= 2


def test_clipped_light_was_stronger_than_stored():
    camera = Camera(highlights=3.0)
    photo = np.array([[[1.0, 1.0, 1.0], [0.9, 0.9, 0.9]]])
    assert camera.light(photo)[0, 0] == pytest.approx(3) and camera.light(photo)[0, 1] == pytest.approx(0.787, abs=1e-3)


@pytest.mark.parametrize("linear", [True, False])
@pytest.mark.parametrize("resize", [0.5, 1.0, 1.6])
def test_what_was_in_focus_is_stored_as_the_photo_that_is_asked_for(linear, resize):
    # Without noise and losses nothing tells the capture of a scene in focus from the sharp photo.
    photo = np.random.default_rng(0).random((40, 44, 3))
    for amount in (0.0, 0.7):
        camera = Camera(linear, shot_noise=0, read_noise=0, sharpening=amount, sharpening_width=1.3, resize=resize)
        stored = camera.develop(camera.light(photo), np.random.default_rng(0))
        assert np.abs(stored - camera.in_focus(photo)).max() < 0.51 / 255
    assert np.abs(camera.in_focus(photo) - photo).max() > 0.1


def test_an_enlarged_photo_in_focus_has_no_finer_details_than_its_sensor():
    photo = np.random.default_rng(0).random((64, 64, 3))
    power = {
        resize: np.abs(np.fft.fft2(Camera(False, resize=resize).in_focus(photo), axes=(0, 1))) ** 2
        for resize in (1.0, 2.0)
    }
    # Half the sensor's pixels along an axis hold frequencies up to a quarter of a cycle per pixel of the file.
    fine = (np.abs(np.fft.fftfreq(64)) > 0.3)[:, None] & np.ones(64, bool)
    assert power[2.0][fine].sum() < 0.05 * power[1.0][fine].sum()
    assert np.abs(Camera(False).in_focus(photo) - photo).max() < 1e-12


def test_the_sharp_photo_of_a_capture_is_stored_by_its_camera():
    simulator = Simulator(largest_radius=3.0)
    photo = 0.96 * torch.rand(3, 40 + 2 * simulator.margin, 44 + 2 * simulator.margin)
    inner = photo[:, simulator.margin : -simulator.margin, simulator.margin : -simulator.margin]
    changed = 0
    for seed in range(12):
        capture = simulator(photo, np.random.default_rng(seed))
        scene = simulator.scene(photo, np.random.default_rng(seed))
        assert scene.camera == capture.camera and torch.equal(simulator.in_focus(scene), capture.x)
        changes = scene.camera.sharpening > 0 or scene.camera.resize != 1
        assert torch.allclose(capture.x, inner, atol=1e-5) != changes
        changed += changes
    assert 0 < changed < 12


def test_captures_are_functions_of_photo_and_seed():
    simulator = Simulator(largest_radius=3.0)
    photo = torch.rand(3, 40 + 2 * simulator.margin, 44 + 2 * simulator.margin)
    first, again, other = (simulator(photo, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert torch.equal(first.y, again.y) and torch.equal(first.radius_map, again.radius_map)
    assert not torch.equal(first.y, other.y)
    assert first.y.shape == (3, 40, 44) and first.radius_map.shape == (1, 40, 44)
    assert first.x.shape == first.y.shape
    assert torch.equal((255 * first.y).round() / 255, first.y)
    assert float(first.radius_map.min()) >= 0 and float(first.radius_map.max()) <= 3
    with pytest.raises(ValueError, match="larger than"):
        simulator(photo[:, :10], np.random.default_rng(0))


def test_matched_captures_keep_to_the_restorers_world():
    simulator = Simulator(largest_radius=3.0, matched=True)
    photo = torch.rand(3, 32 + 2 * simulator.margin, 32 + 2 * simulator.margin)
    capture = simulator(photo, np.random.default_rng(5))
    assert capture.aperture == Aperture() and not capture.camera.linear and capture.camera.jpeg_quality is None
