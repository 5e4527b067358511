"""Serve an exported model over HTTP: images to /predict, boxes as in the JSON of `rtmdet predict`.

    python projects/serve/server.py model.onnx
    curl --data-binary @street.jpg localhost:8000/predict
    curl -F images=@a.jpg -F images=@b.jpg localhost:8000/predict

Images are decoded and resized in several threads. One thread runs the network, on a batch of the images that wait.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace

import cv2
import numpy as np
import uvicorn
from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import UploadFile
from starlette.requests import ClientDisconnect

from rtmdet_runtime import Detections, RTMDetector
from rtmdet_runtime.image import Image, decode_image, letterbox
from rtmdet_runtime.image_size import VARIABLE
from rtmdet_runtime.messages import one_line

MAX_PIXELS = 50_000_000
"""Limit of an image's pixels if `RTMDET_MAX_PIXELS` isn't set; decoding takes 300 MB then."""


@dataclass(frozen=True)
class Limits:
    """Limits of the requests, which bound the server's memory.

    Attributes:
        requests: requests in progress; more are refused with status 503.
        bytes: length of a request's body.
        images: images in a request.
        seconds: time to receive a request's body.
    """

    requests: int = 64
    bytes: int = 20_000_000
    images: int = 16
    seconds: int = 30


class Batcher:
    """Run a detector in one thread, on the images of several requests at once.

    Args:
        detector: the detector.
        batch_size: maximum number of images that the network gets at once.
    """

    def __init__(self, detector: RTMDetector, batch_size: int) -> None:
        self.detector, self.batch_size = detector, batch_size
        self.queue: asyncio.Queue[tuple[Image, asyncio.Future[Detections]]] = asyncio.Queue()

    async def predict(self, image: Image) -> Detections:
        """Find objects in an image, together with other images that wait."""
        future = asyncio.get_running_loop().create_future()
        await self.queue.put((image, future))
        return await future

    async def run(self) -> None:
        """Take images from the queue until cancelled; an error of the network is one of its requests only."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1) as thread:
            while True:
                batch = [await self.queue.get()]
                while len(batch) < self.batch_size and not self.queue.empty():
                    batch.append(self.queue.get_nowait())
                try:
                    images = [image for image, _ in batch]
                    found = await loop.run_in_executor(thread, self.detector.predict, images, len(images))
                except Exception as error:
                    for _, future in batch:
                        if not future.done():  # its client may have left
                            future.set_exception(error)
                else:
                    for (_, future), detections in zip(batch, found, strict=True):
                        if not future.done():
                            future.set_result(detections)


async def read_files(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    """Return name and content of the images in a request: the files of a form, or the body.

    Raises:
        HTTPException: if a limit is exceeded, or the request has no image.
    """
    received = 0

    async def receive() -> dict:
        nonlocal received
        message = await request.receive()
        received += len(message.get('body', b''))
        if received > limits.bytes:
            raise HTTPException(413, f'a request must have at most {limits.bytes:,} bytes')
        return message

    limited = Request(request.scope, receive)
    if request.headers.get('content-type', '').startswith('multipart/form-data'):
        async with limited.form(max_files=limits.images) as form:
            uploads = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
            files = [(upload.filename or 'image', await upload.read()) for upload in uploads]
    else:
        files = [('image', await limited.body())]
    if not any(content for _, content in files):
        raise HTTPException(400, 'a request must have an image as its body, or files in a form, got none')
    return files


def record(name: str, found: Detections, scale: tuple[float, float]) -> dict:
    """Return the detections of a letterboxed image in pixels of the original, as `rtmdet predict` does for JSON."""
    return replace(found, source=name, boxes=found.boxes / np.array(scale * 2)).to_dict()


def create_app(detector: RTMDetector, batch_size: int = 8, limits: Limits | None = None) -> FastAPI:
    """Create the application; see the module.

    Args:
        detector: the detector.
        batch_size: maximum number of images that the network gets at once.
        limits: limits of the requests.
    """
    limits, info = limits or Limits(), detector.info
    batcher = Batcher(detector, batch_size)
    decoders = ThreadPoolExecutor(os.cpu_count())
    slots = asyncio.Semaphore(limits.requests)

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        # If the model can't run, the server doesn't start; and the first request doesn't take longer than others.
        detector.predict(np.zeros((*info.input_size, 3), np.uint8))
        app.state.batches = asyncio.create_task(batcher.run())
        yield
        app.state.batches.cancel()

    app = FastAPI(title='RTMDet', lifespan=lifespan)
    app.state.batcher = batcher

    def prepare(content: bytes, name: str) -> tuple[Image, tuple[float, float]]:
        # The resized image waits for the network, because the original could take a hundred times the memory.
        return letterbox(decode_image(content, name), info.input_size, info.pad_value, info.keep_ratio)

    @app.post('/predict')
    async def predict(request: Request) -> JSONResponse:
        """Find objects in one image (the body) or several (files of a form, multipart/form-data)."""
        if slots.locked():
            raise HTTPException(503, 'too many requests in progress, try again later', {'Retry-After': '1'})
        async with slots:
            try:
                files = await asyncio.wait_for(read_files(request, limits), limits.seconds)
            except asyncio.TimeoutError:
                raise HTTPException(408, f'a request must arrive in {limits.seconds} s') from None
            except ClientDisconnect:
                raise HTTPException(400, 'the connection was closed before the end of the request') from None
            loop = asyncio.get_running_loop()
            try:
                images = await asyncio.gather(
                    *(loop.run_in_executor(decoders, prepare, content, name) for name, content in files)
                )
            except ValueError as error:
                raise HTTPException(400, one_line(error)) from None
            found = await asyncio.gather(*(batcher.predict(image) for image, _ in images))
        rows = zip(files, found, images, strict=True)
        return JSONResponse([record(name, one, scale) for (name, _), one, (_, scale) in rows])

    @app.get('/healthz')
    async def healthz() -> JSONResponse:
        """Return status 200 if images are processed, 500 otherwise."""
        healthy = not app.state.batches.done()
        content = dict(status='ok' if healthy else 'failed', classes=info.classes)
        return JSONResponse(content, 200 if healthy else 500)

    return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('model', help='file of `rtmdet export`; export with --dynamic batch to use --batch-size')
    parser.add_argument('--host', default='127.0.0.1')
    parser.add_argument('--port', type=int, default=8000)
    parser.add_argument('--threads', type=int, help='threads of the network (default: the backend decides)')
    parser.add_argument('--batch-size', type=int, default=8, help='images per batch (default: 8)')
    for name, value in asdict(Limits()).items():
        parser.add_argument(f'--max-{name}', type=int, default=value, metavar='N', help=f'(default: {value:,})')
    args = parser.parse_args()
    os.environ.setdefault(VARIABLE, str(MAX_PIXELS))
    cv2.utils.logging.setLogLevel(2)  # errors: a warning for each damaged image would fill the log
    limits = Limits(**{name: getattr(args, f'max_{name}') for name in asdict(Limits())})
    app = create_app(RTMDetector(args.model, threads=args.threads), args.batch_size, limits)
    uvicorn.run(app, host=args.host, port=args.port, log_level='warning')


if __name__ == '__main__':
    main()
