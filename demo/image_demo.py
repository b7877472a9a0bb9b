"""Draw what a model predicts of images, a folder of images, or a video."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from mmlocal.apis import cli
from mmlocal.apis.inference import Predictor
from mmlocal.visualization import (
    Prediction,
    draw_classification,
    draw_modules,
    draw_segmentation,
)

IMAGES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm')


def make_parser() -> ArgumentParser:
    """The command line."""
    parser = ArgumentParser(description=__doc__)
    parser.add_argument('input', help='an image, a folder, or a video')
    parser.add_argument('model', help='name in the model zoo, or a config')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        type=cli.existing_file,
        help='by default the published weights of the name',
    )
    parser.add_argument(
        '--out-dir', default='outputs', help="'outputs' by default"
    )
    parser.add_argument(
        '--show-modules',
        action='store_true',
        help='draw what each local module predicts and rebuilds (the '
        'checkpoint must have its local heads: of a training, or released)',
    )
    parser.add_argument('--batch-size', type=_positive, default=1)
    parser.add_argument(
        '--opacity', type=float, default=0.6, help='of a segmentation'
    )
    parser.add_argument(
        '--top', type=int, default=5, help='classes of a classification'
    )
    parser.add_argument('--device', help="as 'cpu' or 'cuda:0'")
    return parser


def run(args: Namespace) -> None:
    """Draw everything.

    Raises:
        ValueError: If there is nothing to read.
    """
    source = Path(args.input)
    if not source.exists():
        raise ValueError(f'there is no image, folder or video {source}')
    video = source.is_file() and source.suffix.lower() not in IMAGES
    items = _frames(source) if video else _files(source)
    predictor = Predictor(
        args.model, args.checkpoint, args.device, args.show_modules
    )
    out = Path(args.out_dir)
    out.mkdir(parents=True, exist_ok=True)
    video_out = None
    for batch in _chunks(items, args.batch_size):
        images = [image for _, image in batch]
        predictions = predictor(images, args.batch_size)
        for (name, image), prediction in zip(batch, predictions, strict=True):
            picture = _draw(image[..., ::-1], prediction, predictor, args)
            if video:
                path = out / f'{source.stem}.mp4'
                video_out = video_out or _Video(path, source, picture)
                video_out.add(picture)
            else:
                path = out / f'{name}{"_modules" * args.show_modules}.png'
                _write(path, picture)
                print(path)
    if video_out is not None:
        video_out.writer.release()
        print(path)


def _write(path: Path, picture: np.ndarray) -> None:
    if not cv2.imwrite(str(path), picture[..., ::-1]):
        raise ValueError(f'{path} cannot be written')


def _positive(text: str) -> int:
    if (value := int(text)) < 1:
        raise ValueError(text)
    return value


def _draw(
    image: np.ndarray,
    prediction: Prediction,
    predictor: Predictor,
    args: Namespace,
) -> np.ndarray:
    classes, palette = predictor.classes, predictor.palette
    if args.show_modules:
        return draw_modules(prediction, classes, palette, args.top)
    image = np.ascontiguousarray(image)
    if prediction.labels is None:
        return draw_classification(image, prediction, classes, args.top)
    return draw_segmentation(image, prediction, classes, palette, args.opacity)


def _files(source: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Name and content, BGR, of the images of a path."""
    paths = [source]
    if source.is_dir():
        paths = sorted(
            path for path in source.iterdir() if path.suffix.lower() in IMAGES
        )
    if not paths:
        raise ValueError(f'there are no images in {source}: {IMAGES}')
    for path in paths:
        image = cv2.imread(str(path))
        if image is None:
            raise ValueError(f'{path} cannot be read as an image')
        yield path.stem, image


def _frames(source: Path) -> Iterator[tuple[str, np.ndarray]]:
    video = cv2.VideoCapture(str(source))
    good, frame = video.read()
    if not good:
        raise ValueError(f'{source} is neither an image nor a video')
    while good:
        yield source.stem, frame
        good, frame = video.read()
    video.release()


def _chunks(
    items: Iterator[tuple[str, np.ndarray]], size: int
) -> Iterator[list[tuple[str, np.ndarray]]]:
    chunk = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


class _Video:
    """A video of the size of its first picture.

    Args:
        path (Path): The file to write, ``*.mp4``.
        source (Path): The video whose frame rate it gets.
        picture (np.ndarray): The first one.
    """

    def __init__(self, path: Path, source: Path, picture: np.ndarray) -> None:
        rate = cv2.VideoCapture(str(source)).get(cv2.CAP_PROP_FPS) or 25
        height, width = picture.shape[:2]
        self.size = (width + width % 2, height + height % 2)
        codec = cv2.VideoWriter_fourcc(*'mp4v')
        self.writer = cv2.VideoWriter(str(path), codec, rate, self.size)
        if not self.writer.isOpened():
            raise ValueError(f'this OpenCV cannot write {path}')

    def add(self, picture: np.ndarray) -> None:
        """Add a picture, cut or filled up with white to the size."""
        width, height = self.size
        frame = np.full((height, width, 3), 255, np.uint8)
        picture = picture[:height, :width]
        frame[: picture.shape[0], : picture.shape[1]] = picture
        self.writer.write(np.ascontiguousarray(frame[..., ::-1]))


def main(argv: Sequence[str] | None = None) -> None:
    """Run the tool."""
    parser = make_parser()
    args = parser.parse_args(argv)
    with cli.one_line_errors(parser):
        run(args)


if __name__ == '__main__':
    main()
