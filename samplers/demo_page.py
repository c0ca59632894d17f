"""The page of the demo: a photo in, paint where it is to be restored, and what `samplers.demo_request` makes of it.

Photos go from the browser to a file and from a file to the browser; only what is shown of them has 8 bits.
"""

import shutil
import tempfile
import threading
import traceback
from collections.abc import Callable
from html import escape
from pathlib import Path

import gradio as gr
import numpy as np
from PIL import Image
from starlette.middleware import Middleware

from photos import PHOTO_SUFFIXES
from samplers.choices import PRESETS
from samplers.demo_request import Cancelled, DemoRequest, DemoResult, RequestError, fulfil, preview

__all__ = ["Desk", "build_page", "serve"]

_PAINT, _OPACITY = "rgb(255, 64, 0)", 0.5
_KEPT_HOURS = 12  # for which the browser can fetch results again
_HEAD = """# ScoreFocus
Drop a defocused photo. What you paint is restored; without paint, all of it."""


class Desk:
    """Where requests are worked on: a folder for each visitor's last results, and a way to stop what is under way.

    Args:
        room: Folder for all of it.
        weights: Folder of a saved pipeline; None for the default.
        device: `auto`, or a name of PyTorch.
    """

    def __init__(self, room: Path, weights: str | None = None, device: str = "auto") -> None:
        self.room, self.weights, self.device = room, weights, device
        self._stop: dict[str, threading.Event] = {}
        self._folders: dict[str, Path] = {}

    def show(self, photo: str | None, request: gr.Request) -> tuple:
        """The photo on the canvas; what was under way or done for another one is cleared away."""
        self._stop.pop(request.session_hash, threading.Event()).set()
        if photo is None:
            return None, None, None, None, ""
        picture, (width, height) = _in_a_sentence(lambda: preview(Path(photo)))
        return _canvas(picture), None, None, None, f"{escape(Path(photo).name)}: {width} x {height} pixels"

    def clean(self, photo: str | None) -> dict | None:
        """The photo on the canvas without paint."""
        return None if photo is None else _canvas(_in_a_sentence(lambda: preview(Path(photo)))[0])

    def restore(
        self, photo: str | None, painted: dict | None, preset: str, strength: float, max_radius: float,
        request: gr.Request, progress: gr.Progress = gr.Progress(),  # noqa: B008 - this is how Gradio gives one
    ) -> tuple:  # fmt: skip
        """The pictures to compare, the map, the files to take home, and a word on them."""
        if photo is None:
            raise gr.Error("photo: expected one to restore, got none", print_exception=False)
        stop = self._stop[request.session_hash] = threading.Event()

        def watch(done: int, total: int | None) -> None:
            if stop.is_set():
                raise Cancelled
            if total is None:
                progress(0, desc="Estimating the defocus map")
            else:
                progress((done, total), desc="Restoring", unit="network evaluations")

        def work() -> tuple:
            wished = DemoRequest(Path(photo), _paint(painted), preset, float(strength), float(max_radius) or None)
            folder = self._empty_folder(request.session_hash)
            result = fulfil(wished, folder, watch, weights=self.weights, device=self.device)
            for text in result.warnings:
                gr.Warning(escape(text))
            return _shown(wished, result)

        try:
            return _in_a_sentence(work)
        finally:
            if self._stop.get(request.session_hash) is stop:
                del self._stop[request.session_hash]

    def cancel(self, request: gr.Request) -> None:
        """Stops the visitor's restoration at its next network evaluation; the page itself waits no longer."""
        stop = self._stop.pop(request.session_hash, None)
        if stop is not None:
            stop.set()
            gr.Info("Cancelled; nothing is written.")

    def leave(self, request: gr.Request) -> None:
        """Stops and forgets what a visitor asked for who closed the page."""
        self._stop.pop(request.session_hash, threading.Event()).set()
        shutil.rmtree(self._folders.pop(request.session_hash, self.room / "none"), ignore_errors=True)

    def close(self) -> None:
        """Stops all work."""
        for stop in list(self._stop.values()):
            stop.set()

    def _empty_folder(self, session: str) -> Path:
        shutil.rmtree(self._folders.pop(session, self.room / "none"), ignore_errors=True)
        # The name of a session comes from outside and is no name for a folder.
        self._folders[session] = Path(tempfile.mkdtemp(dir=self.room))
        return self._folders[session]


def _in_a_sentence(work: Callable[[], tuple]) -> tuple:
    """What some work gives; its errors are shown in a sentence."""
    try:
        return work()
    except Cancelled:
        return gr.skip()
    except RequestError as error:
        raise gr.Error(escape(str(error)), print_exception=False) from None
    except Exception as error:
        traceback.print_exc()
        text = f"expected to restore the photo, got a {type(error).__name__} (the terminal says more)"
        raise gr.Error(text, print_exception=False) from None


def _paint(painted: dict | None) -> np.ndarray | None:
    """Opacity of the paint in [0, 1], float32, shape (h, w), relative to that of the brush."""
    layers = [] if painted is None else [layer for layer in painted["layers"] or [] if layer is not None]
    if not layers:
        return None
    alpha = np.max([np.asarray(layer.getchannel("A"), np.float32) / 255 for layer in layers], axis=0)
    # A code below the brush's opacity is rounding.
    return np.minimum(alpha / (_OPACITY - 1 / 255), 1)


def _canvas(picture: Image.Image) -> dict:
    return {"background": picture, "layers": [], "composite": None}


def _shown(wished: DemoRequest, result: DemoResult) -> tuple:
    compared = preview(wished.photo)[0], preview(result.job.result)[0]
    facts = result.facts
    text = (
        f"{facts['evaluations']} network evaluations; mean blur radius {facts['mean_radius']:.2f} pixels, largest "
        f"{facts['largest_radius']:.2f}. The same on the command line:\n```\n{result.command}\n```"
    )
    return compared, str(result.job.overlay), [str(file) for file in result.files], text


def build_page(desk: Desk) -> gr.Blocks:
    """Lays out the page.

    Args:
        desk: What its buttons do.
    """
    kept = 3600 * _KEPT_HOURS
    with gr.Blocks(title="ScoreFocus", analytics_enabled=False, delete_cache=(kept, kept), fill_width=True) as page:
        gr.Markdown(_HEAD)
        with gr.Row():
            with gr.Column():
                formats = ", ".join(sorted(PHOTO_SUFFIXES & {".jpg", ".png", ".tif", ".webp", ".avif", ".heic"}))
                photo = gr.File(label=f"Photo: {formats}, raw", height=140)
                canvas = gr.ImageEditor(
                    label="Paint what is to be restored", type="pil", format="png", height=480, sources=(),
                    transforms=(), buttons=[], layers=gr.LayerOptions(allow_additional_layers=False),
                    brush=gr.Brush(colors=[(_PAINT, _OPACITY)], default_color=(_PAINT, _OPACITY), color_mode="fixed"),
                )  # fmt: skip
                preset = gr.Radio(PRESETS, value="balanced", label="Preset: how many network evaluations")
                strength = gr.Slider(0, 1, 1, step=0.05, label="Strength: share of the restoration in the result")
                max_radius = gr.Slider(
                    0, 16, 0, step=0.5, label="Maximum radius: blur of so many pixels and more stays; 0 for no limit"
                )
                with gr.Row():
                    start = gr.Button("Restore", variant="primary")
                    cancel = gr.Button("Cancel", variant="stop")
            with gr.Column():
                comparison = gr.ImageSlider(label="Before and after", format="png", interactive=False)
                overlay = gr.Image(label="Defocus map", interactive=False, buttons=["fullscreen"])
                files = gr.File(label="Results", file_count="multiple", interactive=False)
                said = gr.Markdown()
        results = [comparison, overlay, files, said]
        asked = [photo, canvas, preset, strength, max_radius]
        # One at a time: two would share memory and time.
        started = start.click(
            desk.restore, asked, results, api_name="restore", concurrency_limit=1, show_progress_on=comparison
        )
        cancel.click(desk.cancel, cancels=started, concurrency_limit=None, api_visibility="private")
        gr.on(
            [photo.upload, photo.clear], desk.show, photo, [canvas, *results], cancels=started,
            show_progress_on=canvas, api_visibility="private",
        )  # fmt: skip
        canvas.clear(desk.clean, photo, canvas, api_visibility="private")
        page.unload(desk.leave)
    return page


def serve(desk: Desk, host: str = "127.0.0.1", port: int | None = None) -> tuple[gr.Blocks, str]:
    """Serves the page from a thread of its own.

    Args:
        desk: What does the work.
        host: Address of the machine's network interface.
        port: Of the page; None for the first free one from 7860.

    Returns:
        The page, whose `close` ends it, and its address.

    Raises:
        OSError: If there is no such address or port, or it is taken.
    """
    page = build_page(desk)
    # Gradio's plain looks with the fonts that the visitor's system has: none is fetched.
    theme = gr.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    _, address, _ = page.launch(
        server_name=host, server_port=port, prevent_thread_lock=True, quiet=True, share=False, ssr_mode=False,
        theme=theme, footer_links=[], run_history=False, enable_monitoring=False, pwa=False, mcp_server=False,
        app_kwargs={"middleware": [Middleware(_OnlyFromHere)]},
    )  # fmt: skip
    return page, address


class _OnlyFromHere:
    """Tells browsers to load nothing for the page from elsewhere; a layer between server and application (ASGI)."""

    _POLICY = b"default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:"

    def __init__(self, app: Callable) -> None:
        self.app = app

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        async def with_policy(message: dict) -> None:
            if message["type"] == "http.response.start":
                headers = [*message.get("headers", ()), (b"content-security-policy", self._POLICY)]
                message = {**message, "headers": headers}
            await send(message)

        await self.app(scope, receive, with_policy)
