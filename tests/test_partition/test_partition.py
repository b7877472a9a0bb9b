import pytest

from mmlocal.models.backbones import CIFARResNet
from mmlocal.models.cut_points import CutPoints
from mmlocal.partition import EqualDepth, PublishedSplit
from mmlocal.partition.published import PUBLISHED_SPLITS

SHAPE = (3, 32, 32)


@pytest.fixture(scope='module')
def points():
    return {depth: CutPoints(CIFARResNet(depth), SHAPE) for depth in (32, 110)}


@pytest.fixture(scope='module')
def kept():
    return {}


@pytest.fixture
def points_of(helpers, kept):
    """Where one of the large backbones can be cut; found once."""

    def find(kind):
        cfg = {**BACKBONES[kind], '_scope_': 'mmpretrain'}
        if str(cfg) not in kept:
            kept[str(cfg)] = CutPoints(helpers.build(cfg), (3, 224, 224))
        return kept[str(cfg)]

    return find


@pytest.mark.parametrize('depth', [32, 110])
@pytest.mark.parametrize('num_modules', [2, 3, 4, 8, 16])
def test_equal_depth_finds_the_published_splits(points, depth, num_modules):
    found = EqualDepth(num_modules)(points[depth])
    assert found == PUBLISHED_SPLITS[f'infopro/resnet{depth}-k{num_modules}']


@pytest.mark.parametrize(
    ('depth', 'num_modules', 'layers'),
    [
        (32, 2, [15, 16]),
        (32, 4, [7, 8, 8, 8]),
        (32, 8, [3] + 7 * [4]),
        (32, 16, [1] + 15 * [2]),
        (110, 2, [55, 54]),
        (110, 4, [25, 28, 28, 28]),
        (110, 8, [11] + 7 * [14]),
        (110, 16, [5] + 8 * [6] + 7 * [8]),
    ],
)
def test_layers_of_the_published_splits(points, depth, num_modules, layers):
    cuts = points[depth].check(
        PUBLISHED_SPLITS[f'infopro/resnet{depth}-k{num_modules}']
    )
    ends = [0, *(cut.depth for cut in cuts), points[depth].depth]
    assert [b - a for a, b in zip(ends, ends[1:], strict=False)] == layers


@pytest.mark.parametrize('name', sorted(PUBLISHED_SPLITS))
@pytest.mark.slow
def test_published_splits_can_be_cut(points, name, points_of):
    split = PublishedSplit(name)(None)
    kind = name.split('/')[1].split('-')[0]
    if kind in ('resnet32', 'resnet110'):
        cuts = points[int(kind[6:])].check(split)
    else:
        cuts = points_of(kind).check(split)
    assert [cut.name for cut in cuts] == split
    if '-k' in name:
        assert len(split) == int(name.rsplit('-k', 1)[1]) - 1


BACKBONES = {
    'resnet101': {'type': 'ResNet', 'depth': 101},
    'deeplabv3': {'type': 'ResNet', 'depth': 101},
    'resnet152': {'type': 'ResNet', 'depth': 152},
    'resnext101': {'type': 'ResNeXt', 'depth': 101},
    'vgg13': {'type': 'VGG', 'depth': 13, 'norm_cfg': {'type': 'BN'}},
    'vgg19': {'type': 'VGG', 'depth': 19, 'norm_cfg': {'type': 'BN'}},
}


def test_vgg_modules_of_dgl(points_of):
    """Channels and strides: a cut behind each convolution but the last."""
    cuts = points_of('vgg13').check(PUBLISHED_SPLITS['dgl/vgg13-k10'])
    sizes = [(c.boundary.channels, 224 // c.boundary.stride) for c in cuts]
    assert sizes == [
        *2 * [(64, 224)],
        *2 * [(128, 112)],
        *2 * [(256, 56)],
        *2 * [(512, 28)],
        (512, 14),
    ]


@pytest.mark.slow
def test_modules_of_infopro_on_imagenet_and_cityscapes(points_of):
    points = points_of('resnet101')
    (cut,) = points.check(PUBLISHED_SPLITS['infopro/resnet101'])
    assert (cut.boundary.channels, cut.boundary.stride) == (512, 8)
    (cut,) = points.check(PUBLISHED_SPLITS['infopro/deeplabv3-r101'])
    assert cut.boundary.channels == 1024
    assert cut.depth == 1 + 3 * (3 + 4 + 13)


def test_more_modules_than_blocks(points):
    with pytest.raises(ValueError, match='write 16 at most'):
        EqualDepth(17)(points[32])


def test_errors():
    with pytest.raises(ValueError, match='num_modules is 1'):
        EqualDepth(1)
    with pytest.raises(ValueError, match='infopro/resnet32-k4') as error:
        PublishedSplit('infopro/resnet32-k5')
    assert 'boundaries.name' in str(error.value)
