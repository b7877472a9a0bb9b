import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.structures import PixelData

from mmlocal.datasets import CamVidDataset

PREFIX = {'img_path': 'images/train', 'seg_map_path': 'masks/train'}
PIPELINE = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]


@pytest.fixture(autouse=True)
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


@pytest.fixture
def root(tmp_path):
    """Two images; their labels are 0 to 11, one a column."""
    for kind in ('images', 'masks'):
        (tmp_path / kind / 'train').mkdir(parents=True)
    image = np.full((8, 12, 3), 90, np.uint8)
    mask = np.tile(np.arange(12, dtype=np.uint8), (8, 1))
    for name in ('a', 'b'):
        cv2.imwrite(str(tmp_path / f'images/train/{name}.jpg'), image)
        cv2.imwrite(str(tmp_path / f'masks/train/{name}.png'), mask)
    return tmp_path


def build(root, **kwargs):
    kwargs = {'data_prefix': PREFIX, 'pipeline': PIPELINE, **kwargs}
    return CamVidDataset(data_root=str(root), **kwargs)


def test_unlabelled_pixels_are_ignored(root):
    dataset = build(root)
    assert len(dataset) == 2
    item = dataset[1]
    assert item['inputs'].shape == (3, 8, 12)
    labels = item['data_samples'].gt_sem_seg.data[0, 0].tolist()
    assert labels == [*range(11), 255]
    assert len(dataset.metainfo['palette']) == 11


def test_a_choice_of_classes(root):
    dataset = build(root, metainfo={'classes': ('car', 'road')})
    labels = dataset[0]['data_samples'].gt_sem_seg.data[0, 0].tolist()
    assert [i for i, c in enumerate(labels) if c != 255] == [3, 8]
    assert labels[8] == 0 and labels[3] == 1
    assert dataset.metainfo['palette'] == [[64, 0, 128], [128, 64, 128]]


def test_the_metric_leaves_unlabelled_pixels_out(root):
    from mmseg.evaluation import IoUMetric

    dataset = build(root)
    sample = dataset[0]['data_samples']
    guess = sample.gt_sem_seg.data.clone()
    guess[guess == 255] = 3  # wrong wherever nothing is labelled
    guess[:, 0, 8] = 3  # and one pixel of eight of the cars
    sample.pred_sem_seg = PixelData(data=guess)
    metric = IoUMetric(prefix='')
    metric.dataset_meta = dataset.metainfo
    metric.process({}, [sample.to_dict()])
    result = metric.evaluate(1)
    # road: 8 of 9 pixels, car: 7 of 8, the other nine: all.
    expected = 100 * (8 / 9 + 7 / 8 + 9) / 11
    assert result['mIoU'] == pytest.approx(expected, abs=0.01)


def test_the_loss_leaves_unlabelled_pixels_out(root):
    from mmseg.models.losses import CrossEntropyLoss

    labels = build(root)[0]['data_samples'].gt_sem_seg.data
    logits = torch.zeros(1, 11, 8, 12)
    logits[..., 11] = 1e4 * torch.randn(1, 11, 8)
    loss = CrossEntropyLoss(avg_non_ignore=True)(
        logits, labels, ignore_index=255
    )
    assert loss.item() == pytest.approx(np.log(11), rel=1e-5)


def test_images_without_annotation_folder(root):
    dataset = build(
        root, data_prefix={'img_path': 'images/train'}, pipeline=[]
    )
    assert len(dataset) == 2


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError) as error:
        build(tmp_path / 'nowhere')
    message = str(error.value)
    assert 'nowhere/images/train is missing' in message
    assert 'mi.eng.cam.ac.uk' in message
    assert 'data_root' in message


def test_empty_folder(root):
    with pytest.raises(FileNotFoundError, match=r'no \*\.bmp in '):
        build(root, img_suffix='.bmp')


def test_missing_label_map(root):
    (root / 'masks/train/b.png').unlink()
    with pytest.raises(FileNotFoundError, match='b.png is missing'):
        build(root)
