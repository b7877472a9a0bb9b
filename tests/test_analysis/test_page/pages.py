"""Work dirs as trainings leave them, and what stands on a page."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import cv2
import numpy as np

VOID = {'meta', 'input', 'img', 'br', 'link'}
LOCAL_BACKBONE = """dict(
    type='mmlocal.LocalSupervisedBackbone',
    backbone=dict(type='mmlocal.CIFARResNet', depth=20),
    boundaries=dict(type='mmlocal.EqualDepth', num_modules=3),
    local_heads=dict(type='mmlocal.DGLHead', net='mlp-sr', num_classes=5))"""
PLAIN_BACKBONE = "dict(type='mmlocal.CIFARResNet', depth=20)"


def config(backbone=LOCAL_BACKBONE, epochs=2, extra='') -> str:
    return (
        f"model = dict(type='ImageClassifier', backbone={backbone})\n"
        'optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.1))\n'
        f'train_cfg = dict(by_epoch=True, max_epochs={epochs})\n'
        'default_hooks = dict(logger=dict(type="LoggerHook", interval=2))\n'
        'randomness = dict(seed=7)\n'
        f'{extra}\n'
    )


def text_log(lines=(), size=4) -> str:
    now = '2026/01/01 10:0{}:00 - mmengine - INFO - {}'
    messages = [
        "boundaries=['layer2.0', 'layer3.0']",
        f'Epoch(train)  [1][2/{size}]  lr: 1.0e-01',
        *lines,
    ]
    head = '    PyTorch: 2.9.0\n    MMEngine: 0.10.12\n'
    return head + ''.join(
        now.format(minute, message) + '\n'
        for minute, message in enumerate(messages)
    )


def train_line(iteration, **values) -> dict:
    place = {'epoch': 1, 'iter': iteration, 'step': iteration}
    return {'lr': 0.1, 'data_time': 0.01, 'time': 0.5, **values, **place}


def write_part(
    work_dir: Path,
    lines: list[dict],
    stamp='20260101_100000',
    cfg: str | None = None,
    log: str | None = '',
) -> Path:
    """A folder as one start of a training makes it."""
    folder = work_dir / stamp
    (folder / 'vis_data').mkdir(parents=True)
    text = ''.join(json.dumps(line) + '\n' for line in lines)
    (folder / 'vis_data' / 'scalars.json').write_text(text)
    (folder / 'vis_data' / 'config.py').write_text(cfg or config())
    if log is not None:
        (folder / f'{stamp}.log').write_text(log or text_log())
    return folder


def local_lines() -> list[dict]:
    """Two epochs of four iterations in three modules."""
    lines = []
    for iteration in range(2, 9, 2):
        values = {
            'loss': 2.0 / iteration,
            'local_0.loss_task': 3.0 / iteration,
            'local_1.loss_task': 4.0 / iteration,
            'local_0.acc': 10.0 * iteration,
        }
        lines.append(train_line(iteration, **values))
        if iteration % 4 == 0:
            epoch = iteration // 4
            lines.append(
                {
                    'accuracy/top1': 30.0 + epoch,
                    'module_1/accuracy/top1': 10.0 + epoch,
                    'module_2/accuracy/top1': 20.0 + epoch,
                    'ensemble_2/accuracy/top1': 25.0 + epoch,
                    'module_3/accuracy/top1': 30.0 + epoch,
                    'data_time': 0.1,
                    'time': 0.2,
                    'step': epoch,
                }
            )
    return lines


def plain_lines() -> list[dict]:
    lines = [
        train_line(i, loss=1.0 / i, time=0.25, memory=2048)
        for i in range(2, 9, 2)
    ]
    return [*lines, {'accuracy/top1': 50.5, 'time': 1.0, 'step': 2}]


class Page(HTMLParser):
    """Tags, texts and addresses; an error where tags do not match."""

    def __init__(self, html: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.addresses: list[str] = []
        self.ids: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.ids += [value for name, value in attrs if name == 'id']
        self.addresses += [v for k, v in attrs if k in ('src', 'href')]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag


def figure(html: str, title: str) -> str:
    (found,) = re.findall(
        rf'<h3>{re.escape(title)}</h3>.*?</figure>', html, re.S
    )
    return found


def curves(html: str, title: str, panel: int = 0) -> dict[str, dict]:
    """What a script reads of a figure: x and y by the names of curves."""
    texts = re.findall(
        r'<script type="application/json">(.*?)</script>', figure(html, title)
    )
    lines = json.loads(texts[panel])['lines']
    return {line['name']: line for line in lines}


def cells(html: str, title: str) -> list[list[str]]:
    """The table below a figure."""
    rows = re.findall(r'<tr>(.*?)</tr>', figure(html, title), re.S)
    return [
        [unescape(t) for t in re.findall(r'<t[hd][^>]*>(.*?)</t[hd]>', row)]
        for row in rows
    ]


def add_measures(path: Path, entries: list | None = None, version=1) -> None:
    def entry(epoch):
        base = [10.0 * epoch, 20.0 * epoch, None]
        measures = {
            'probe': {'accuracy': base},
            'nhsic': {
                'x': [0.9, 0.5, 0.25],
                'x_sem': [0.01, 0.02, 0.03],
                'x_shuffled': [0.1, 0.125, 0.1],
            },
            'cka': {'matrix': [[1, 0.5, 0.2], [0.5, 1, 0.4], [0.2, 0.4, 1]]},
            'unheard of': {'thing': [epoch, epoch + 1, epoch + 2]},
        }
        return {
            'checkpoint': f'epoch_{epoch}.pth',
            'epoch': epoch,
            'iter': 4 * epoch,
            'modules': ['module 1', 'module 2', 'module 3'],
            'measures': measures,
        }

    entries = [entry(2), entry(1)] if entries is None else entries
    content = {'version': version, 'entries': entries}
    (path / 'measures.json').write_text(json.dumps(content))


def add_picture(path: Path, name: str, width: int) -> Path:
    folder = next(path.glob('2*')) / 'vis_data' / 'vis_image'
    folder.mkdir(exist_ok=True)
    image = np.zeros((20, width, 3), np.uint8)
    image[:, : width // 2] = (10, 200, 90)
    cv2.imwrite(str(folder / name), image)
    return folder / name
