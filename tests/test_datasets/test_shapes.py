"""Shapes: drawn the same anywhere, and out of a linear model's reach."""

import cv2
import numpy as np
import pytest
import torch
from mmengine.fileio import get
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mmlocal.datasets import Recipe, ShapesCls, ShapesSeg, draw_scene
from mmlocal.datasets.canvas import SHAPES, Canvas
from mmlocal.registry import DATASETS

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]


@pytest.fixture
def mmseg_scope():
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def scene(task, index, split='train', seed=0, size=(48, 64), noise=12.0):
    return draw_scene(Recipe(task, *size, noise, seed, split, index))


@pytest.mark.parametrize('task', ['seg', 'cls'])
def test_a_scene_depends_on_its_recipe_alone(task):
    first = [scene(task, i) for i in range(12)]
    again = [scene(task, i) for i in reversed(range(12))][::-1]
    assert first[0][0] is not again[0][0]  # drawn again, not remembered
    for (image, labels), (same_image, same_labels) in zip(
        first, again, strict=True
    ):
        np.testing.assert_array_equal(image, same_image)
        np.testing.assert_array_equal(labels, same_labels)


@pytest.mark.parametrize('task', ['seg', 'cls'])
def test_no_two_scenes_are_alike(task):
    scenes = [
        scene(task, index, split, seed)
        for split in ('train', 'val')
        for seed in (0, 1)
        for index in range(20)
    ]
    assert len({image.tobytes() for image, _ in scenes}) == len(scenes)


def test_train_and_val_share_no_image():
    train = ShapesSeg(num_images=50, split='train', lazy_init=True)
    val = ShapesSeg(num_images=50, split='val', lazy_init=True)
    drawn = [
        {draw_scene(recipe)[0].tobytes() for recipe in dataset.recipes}
        for dataset in (train, val)
    ]
    assert drawn[0].isdisjoint(drawn[1])


def test_the_path_carries_the_whole_recipe():
    recipe = Recipe('seg', 40, 56, 7.5, 3, 'val', 21)
    image, labels = draw_scene(recipe)
    flag = cv2.IMREAD_UNCHANGED
    for path, expected in [
        (recipe.img_path, image),
        (recipe.seg_map_path, labels),
    ]:
        data = np.frombuffer(get(path), np.uint8)
        np.testing.assert_array_equal(cv2.imdecode(data, flag), expected)
    with pytest.raises(ValueError, match='no path of a Shapes image'):
        get('shapes://seg/96/3.png')


def test_images_and_labels_are_in_range():
    seen = set()
    for index in range(40):
        image, labels = scene('seg', index)
        assert image.shape == (48, 64, 3) and labels.shape == (48, 64)
        assert image.dtype == labels.dtype == np.uint8
        seen |= set(np.unique(labels).tolist())
    assert seen == set(range(len(SHAPES) + 1))


def test_the_label_of_an_image_is_its_prominent_shape():
    labels = []
    for index in range(60):
        recipe = Recipe('cls', 32, 32, 12.0, 0, 'train', index)
        drawn = np.unique(draw_scene(recipe)[1]).tolist()
        assert drawn == [0, 1 + recipe.label()]
        labels.append(recipe.label())
    assert set(labels) == set(range(len(SHAPES)))


@pytest.mark.parametrize(
    'name, area',
    [
        ('disc', np.pi),
        ('square', 2.0),
        ('triangle', 3 * np.sqrt(3) / 4),
        # Ten triangles between an outer corner, an inner one, the centre.
        ('star', 5 * 0.52 * np.sin(np.pi / 5)),
        ('ring', np.pi * (1 - 0.44**2)),
    ],
)
def test_a_shape_covers_its_area(name, area):
    """Of a polygon or circle with corners or rim at radius 1."""
    from mmlocal.datasets.canvas import _SCALES

    canvas = Canvas(200, 200, np.random.default_rng(0))
    canvas.draw(name, 100.3, 99.6, 50.0, 1)
    expected = area * (50 * _SCALES[name]) ** 2
    assert canvas.labels.sum() == pytest.approx(expected, rel=0.01)


def test_later_shapes_hide_earlier_ones():
    canvas = Canvas(64, 64, np.random.default_rng(0))
    canvas.draw('disc', 32, 32, 20, 1)
    canvas.draw('disc', 32, 40, 10, 2)
    assert canvas.labels[32, 40] == 2
    assert canvas.labels[32, 20] == 1
    assert canvas.labels[2, 2] == 0


def test_noise_is_in_grey_levels():
    clean, noisy = (
        scene('seg', 0, noise=n)[0].astype(float) for n in (0.0, 9.0)
    )
    # Where clipping at 0 and 255 cannot reach.
    inside = (clean > 50) & (clean < 205)
    assert (noisy - clean)[inside].std() == pytest.approx(9, rel=0.05)


def ridge(x, y, strength):
    x = np.c_[x, np.ones(len(x))]
    gram = x.T @ x + strength * np.eye(x.shape[1])
    return np.linalg.solve(gram, x.T @ y)


def test_a_linear_model_of_the_colour_finds_no_shape():
    """The best line in colour space calls every pixel background."""

    def pixels(split):
        scenes = [scene('seg', i, split, size=(96, 96)) for i in range(40)]
        colours = np.concatenate([i.reshape(-1, 3)[::7] for i, _ in scenes])
        labels = np.concatenate([m.reshape(-1)[::7] for _, m in scenes])
        return colours / 255.0, labels.astype(int)

    colours, labels = pixels('train')
    count = len(SHAPES) + 1
    weights = ridge(colours, np.eye(count)[labels], 1e-3)
    colours, labels = pixels('val')
    guess = (np.c_[colours, np.ones(len(colours))] @ weights).argmax(1)
    ious = [
        ((guess == c) & (labels == c)).sum()
        / ((guess == c) | (labels == c)).sum()
        for c in range(count)
    ]
    assert np.mean(ious) < 0.2
    assert max(ious[1:]) < 0.1


@pytest.mark.slow
def test_a_linear_model_of_the_pixels_finds_no_shape():
    """Whereas a model that measures the corners would find them all."""

    def images(split, count):
        recipes = [
            Recipe('cls', 32, 32, 12.0, 0, split, i) for i in range(count)
        ]
        x = np.stack([draw_scene(r)[0][::2, ::2].ravel() for r in recipes])
        return x / 255.0 - 0.5, np.array([r.label() for r in recipes])

    x, y = images('train', 1000)
    val_x, val_y = images('val', 300)
    val_x = np.c_[val_x, np.ones(len(val_x))]
    for strength in (1.0, 100.0):
        weights = ridge(x, np.eye(len(SHAPES))[y], strength)
        assert ((val_x @ weights).argmax(1) == val_y).mean() < 0.4


def test_seg_through_the_pipeline_of_a_training(mmseg_scope):
    from mmseg.models import SegDataPreProcessor

    pipeline = [
        *LOAD,
        dict(
            type='RandomResize',
            scale=(64, 64),
            ratio_range=(0.5, 2.0),
            keep_ratio=True,
        ),
        dict(type='RandomCrop', crop_size=(48, 48), cat_max_ratio=0.75),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PhotoMetricDistortion'),
        dict(type='PackSegInputs'),
    ]
    loader = Runner.build_dataloader(
        dict(
            batch_size=4,
            num_workers=2,
            sampler=dict(type='DefaultSampler', shuffle=True),
            dataset=dict(
                type='mmlocal.ShapesSeg',
                num_images=8,
                image_size=(64, 64),
                pipeline=pipeline,
            ),
        )
    )
    preprocess = SegDataPreProcessor(
        mean=[127.5] * 3,
        std=[63.75] * 3,
        size=(48, 48),
        bgr_to_rgb=True,
        seg_pad_val=255,
    )
    for batch in loader:
        batch = preprocess(batch, training=True)
        assert batch['inputs'].shape == (4, 3, 48, 48)
        for sample in batch['data_samples']:
            labels = sample.gt_sem_seg.data
            assert labels.shape == (1, 48, 48)
            known = labels[labels != 255]
            assert known.min() >= 0 and known.max() <= len(SHAPES)


def test_seg_with_test_time_augmentation(mmseg_scope):
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(
            type='TestTimeAug',
            transforms=[
                [dict(type='Resize', scale_factor=f) for f in (0.5, 1.0)],
                [dict(type='RandomFlip', prob=p) for p in (0.0, 1.0)],
                [dict(type='LoadAnnotations')],
                [dict(type='PackSegInputs')],
            ],
        ),
    ]
    item = ShapesSeg(
        num_images=1, split='val', pipeline=pipeline, test_mode=True
    )[0]
    shapes = [tuple(i.shape[1:]) for i in item['inputs']]
    assert shapes == [(48, 48)] * 2 + [(96, 96)] * 2


def test_a_choice_of_classes_ignores_the_others(mmseg_scope):
    kept = ('background', 'ring', 'disc')
    dataset = ShapesSeg(
        num_images=20, metainfo={'classes': kept}, pipeline=LOAD
    )
    seen = set()
    for item in dataset:
        seen |= set(np.unique(item['gt_seg_map']).tolist())
    assert seen == {0, 1, 2, 255}
    assert dataset.metainfo['palette'][1] == [170, 100, 200]


def test_pictures_of_predictions_beside_the_truth(tmp_path, mmseg_scope):
    """The hook of mmseg opens the image at its path again."""
    from mmseg.engine.hooks import SegVisualizationHook
    from mmseg.structures import SegDataSample
    from mmseg.visualization import SegLocalVisualizer

    dataset = ShapesSeg(
        num_images=1,
        split='val',
        pipeline=[*LOAD, dict(type='PackSegInputs')],
    )
    sample: SegDataSample = dataset[0]['data_samples']
    sample.pred_sem_seg = sample.gt_sem_seg.clone()
    visualizer = SegLocalVisualizer.get_instance(
        'shapes',
        vis_backends=[dict(type='LocalVisBackend')],
        save_dir=str(tmp_path),
    )
    visualizer.dataset_meta = dataset.metainfo
    hook = SegVisualizationHook(draw=True, interval=1)
    hook._visualizer = visualizer
    hook.after_test_iter(None, 0, {}, [sample])
    (picture,) = tmp_path.rglob('*.png')
    assert picture.name == 'test_00000.png_1.png'
    assert cv2.imread(str(picture)).shape == (96, 192, 3)


def test_cls_through_the_pipeline_of_a_training():
    from mmpretrain.models import ClsDataPreprocessor

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        loader = Runner.build_dataloader(
            dict(
                batch_size=5,
                num_workers=2,
                sampler=dict(type='DefaultSampler', shuffle=False),
                dataset=dict(
                    type='mmlocal.ShapesCls',
                    num_images=10,
                    pipeline=[
                        dict(type='LoadImageFromFile'),
                        dict(type='RandomCrop', crop_size=32, padding=4),
                        dict(type='RandomFlip', prob=0.5),
                        dict(type='PackInputs'),
                    ],
                ),
            )
        )
    preprocess = ClsDataPreprocessor(
        mean=[127.5] * 3, std=[63.75] * 3, to_rgb=True
    )
    labels = []
    for batch in loader:
        batch = preprocess(batch, training=True)
        assert batch['inputs'].shape == (5, 3, 32, 32)
        labels += [s.gt_label for s in batch['data_samples']]
    expected = [recipe.label() for recipe in loader.dataset.recipes]
    assert torch.cat(labels).tolist() == expected
    assert loader.dataset.get_gt_labels().tolist() == expected


@pytest.mark.parametrize('cls', [ShapesSeg, ShapesCls])
@pytest.mark.parametrize(
    'wrong, message',
    [
        (dict(split='test'), "split='test': write one of"),
        (dict(num_images=0), 'num_images=0: write at least 1'),
        (dict(image_size=(16, 96)), 'image_size=.*at least 24'),
        (dict(image_size=(96,)), r'image_size=.*\(height, width\)'),
        (dict(noise=-1), 'noise=-1'),
        (dict(seed=-1), 'seed=-1'),
    ],
)
def test_wrong_arguments(cls, wrong, message):
    with pytest.raises(ValueError, match=message):
        cls(**wrong)


def test_registered():
    for name in ('ShapesSeg', 'ShapesCls'):
        dataset = DATASETS.build(dict(type=f'mmlocal.{name}', num_images=3))
        assert len(dataset) == 3
