"""Labels in images, against the formulas written out."""

import pytest
import torch

from mmlocal.models.label_embedding import METHODS, LabelEmbedding

SHAPE = (2, 3, 4)


def make(method, **options):
    """Learnt from images of three classes, and these images."""
    embedding = LabelEmbedding(method, 3, SHAPE, **options)
    images = torch.randn(7, *SHAPE)
    labels = torch.tensor([2, 0, 0, 1, 2, 2, 1])
    if embedding.has_prototypes:
        embedding.learn([(images[:3], labels[:3]), (images[3:], labels[3:])])
    return embedding, images, labels


def expected(method, images, labels, sources):
    """Image by image."""
    out = []
    for image, label in zip(images, labels.tolist(), strict=True):
        if method == 'top-left':
            image = image.clone()
            for channel in image:
                # Row by row: three classes in a row of four pixels.
                peak = sources[len(out)]
                for place in range(3):
                    channel[0, place] = peak if place == label else 0
            out.append(image)
            continue
        kind, how = method.rsplit('-', 1)
        prototype = sources[kind][label]
        out.append(
            {
                'subtraction': image - prototype,
                'mixture': (image + prototype) / 2,
                '2channel': torch.cat([image, prototype]),
            }[how]
        )
    return torch.stack(out)


def sources_of(method, images, labels):
    if method == 'top-left':
        return [image.max() for image in images]
    return {
        'average': [images[labels == c].mean(0) for c in range(3)],
        'fixed-example': [images[1], images[3], images[0]],
    }


@pytest.mark.parametrize('method', METHODS)
def test_seven_embeddings(method):
    assert len(METHODS) == 7
    embedding, images, labels = make(method)
    found = embedding(images, labels)
    torch.testing.assert_close(
        found,
        expected(method, images, labels, sources_of(method, images, labels)),
    )
    channels = 4 if method.endswith('2channel') else 2
    assert found.shape == (7, channels, 3, 4)


@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('peak', ['image', 'batch'])
def test_trials_are_all_labels_in_turn(method, peak):
    embedding, images, labels = make(method, peak=peak)
    whole = torch.cat(list(embedding.trials(images, 10**6)))
    chunks = list(embedding.trials(images, 7))
    assert [len(chunk) for chunk in chunks] == [6, 6, 6, 3]
    assert torch.equal(torch.cat(chunks), whole)
    assert len(list(embedding.trials(images, 1))) == 7
    for label in range(3):
        tried = embedding(images, torch.full_like(labels, label))
        assert torch.equal(whole[label::3], tried)


def test_peaks():
    images = torch.randn(5, *SHAPE)
    one = LabelEmbedding('top-left', 3, SHAPE)
    assert one.peaks(images).tolist() == [i.max().item() for i in images]
    whole = LabelEmbedding('top-left', 3, SHAPE, peak='batch')
    assert whole.peaks(images).tolist() == [images.max().item()] * 5


@pytest.mark.parametrize('method', ['top-left', 'average-subtraction'])
def test_pairs(method):
    embedding, images, labels = make(method)
    right, wrong = embedding.pairs(images, labels).chunk(2)
    assert torch.equal(right, embedding(images, labels))
    others = [embedding(images, (labels + shift) % 3) for shift in (1, 2)]
    for index in range(7):
        assert any(torch.equal(wrong[index], other[index]) for other in others)


def share_of_false_negatives(negatives, count=20_000):
    embedding = LabelEmbedding('top-left', 10, (1, 1, 10), negatives=negatives)
    images = torch.ones(count, 1, 1, 10)
    labels = torch.arange(count) % 10
    right, wrong = embedding.pairs(images, labels).chunk(2)
    found = wrong.flatten(1).argmax(1)
    counts = found.bincount(minlength=10).float() / count
    torch.testing.assert_close(
        counts, torch.full((10,), 0.1), atol=0.01, rtol=0
    )
    return (found == labels).float().mean().item()


def test_false_negatives_are_excluded():
    assert share_of_false_negatives('wrong') == 0


def test_published_permutation_has_one_in_ten():
    share = share_of_false_negatives('permutation')
    assert share == pytest.approx(0.1, abs=0.01)


def test_prototypes_are_saved():
    embedding, images, labels = make('average-mixture')
    other = LabelEmbedding('average-mixture', 3, SHAPE)
    assert not other.known
    other.load_state_dict(embedding.state_dict())
    assert other.known and other.counts.tolist() == [2, 2, 3]
    assert torch.equal(other(images, labels), embedding(images, labels))
    assert not LabelEmbedding('top-left', 3, SHAPE).state_dict()


def test_without_prototypes():
    embedding = LabelEmbedding('fixed-example-mixture', 3, SHAPE)
    with pytest.raises(ValueError, match='mmlocal.ClassPrototypeHook'):
        embedding(torch.zeros(1, *SHAPE), torch.tensor([0]))


@pytest.mark.parametrize('kind', ['average', 'fixed-example'])
def test_a_class_that_the_data_lacks(kind):
    embedding = LabelEmbedding(f'{kind}-mixture', 3, SHAPE)
    images, labels = torch.zeros(4, *SHAPE), torch.tensor([0, 2, 2, 0])
    with pytest.raises(ValueError, match=r'no image of class \[1\]'):
        embedding.learn([(images, labels)])
    assert not embedding.known
    with pytest.raises(ValueError, match='num_classes=4 or more'):
        embedding.learn([(images, labels + 1)])
    with pytest.raises(ValueError, match='write model.backbone.input_shape'):
        embedding.learn([(images[:, :1], labels)])


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        ({'method': 'random'}, "method='random' is unknown"),
        ({'peak': 'data'}, "peak='data' is unknown"),
        ({'negatives': 'hard'}, "negatives='hard' is unknown"),
        ({'num_classes': 1}, 'two classes or more'),
        ({'image_shape': (3, 4)}, r'not \(3, 4\)'),
    ],
)
def test_mistakes(options, message):
    settings = {'method': 'top-left', 'num_classes': 3, 'image_shape': SHAPE}
    with pytest.raises(ValueError, match=message):
        LabelEmbedding(**{**settings, **options})


def test_more_classes_than_pixels():
    embedding = LabelEmbedding('top-left', 13, SHAPE)
    with pytest.raises(ValueError, match='one of 13 pixels'):
        embedding(torch.zeros(1, *SHAPE), torch.tensor([0]))
