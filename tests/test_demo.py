"""demo/image_demo.py and tools/download_weights.py, as a user runs them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import mmlocal

ROOT = Path(__file__).parents[1]
NAME = 'infopro_deeplabv3_r18_shapes'


def load(path: str):
    spec = importlib.util.spec_from_file_location('tool', ROOT / path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


demo = load('demo/image_demo.py')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    model = mmlocal.get_model(NAME, False, 'cpu', local_heads=True)
    path = tmp_path_factory.mktemp('weights') / 'weights.pth'
    torch.save(model.state_dict(), path)
    return str(path)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / 'images'
    path.mkdir()
    for i in range(3):
        picture = np.random.RandomState(i).randint(0, 256, (48, 64, 3))
        cv2.imwrite(str(path / f'{i}.png'), picture)
    (path / 'notes.txt').write_text('no image')
    return path


def run(*args) -> None:
    demo.main([*map(str, args), '--device', 'cpu'])


def test_image(folder, weights, tmp_path, capsys):
    run(folder / '1.png', NAME, weights, '--out-dir', tmp_path / 'out')
    assert capsys.readouterr().out.split()[-1] == str(tmp_path / 'out/1.png')
    picture = cv2.imread(str(tmp_path / 'out/1.png'))
    assert picture.shape[0] == 360 + 2 * 14


def test_folder_and_modules(folder, weights, tmp_path):
    out = tmp_path / 'out'
    run(
        *(folder, ROOT / 'configs/infopro/deeplabv3_r18_shapes.py', weights),
        *('--out-dir', out, '--show-modules', '--batch-size', '2'),
    )
    names = sorted(path.name for path in out.iterdir())
    assert names == [f'{i}_modules.png' for i in range(3)]


def test_video(weights, tmp_path):
    path = tmp_path / 'in.avi'
    fourcc = cv2.VideoWriter_fourcc(*'MJPG')
    writer = cv2.VideoWriter(str(path), fourcc, 5, (64, 48))
    for i in range(4):
        writer.write(np.full((48, 64, 3), 60 * i, np.uint8))
    writer.release()
    run(path, NAME, weights, '--out-dir', tmp_path, '--batch-size', '3')
    video = cv2.VideoCapture(str(tmp_path / 'in.mp4'))
    assert video.get(cv2.CAP_PROP_FPS) == 5
    frames = 0
    while video.read()[0]:
        frames += 1
    assert frames == 4


def test_mistakes_are_one_line(folder, weights, tmp_path, capsys):
    notes = folder / 'notes.txt'
    empty = tmp_path / 'empty'
    empty.mkdir()
    for args, message in (
        (('nowhere.png', NAME, weights), 'no image, folder or video'),
        ((notes, NAME, weights), 'neither an image nor a video'),
        ((empty, NAME, weights), 'no images in'),
        ((folder, NAME), 'no published weights'),
        ((folder, 'infopro_deeplab', weights), 'there is no model'),
        ((folder, NAME, weights, '--batch-size', '0'), '--batch-size'),
    ):
        with pytest.raises(SystemExit) as error:
            run(*args, '--out-dir', tmp_path / 'out')
        assert error.value.code == 2
        assert message in capsys.readouterr().err


def test_download_tool_lists_names(capsys):
    tool = load('tools/download_weights.py')
    tool.main([])
    names = capsys.readouterr().out.split()
    assert len(names) == 8 and 'infopro_resnet101_imagenet' in names
    with pytest.raises(SystemExit):
        tool.main(['e2e_resnet20_shapes'])
    assert 'no published weights' in capsys.readouterr().err
