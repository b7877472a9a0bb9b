"""Labels put into images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor, nn

from .local_heads.targets import check_labels

PROTOTYPES = ('average', 'fixed-example')
OPERATIONS = ('subtraction', 'mixture', '2channel')
METHODS = (
    'top-left',
    *(f'{kind}-{how}' for kind in PROTOTYPES for how in OPERATIONS),
)
NEGATIVES = ('wrong', 'permutation')


class LabelEmbedding(nn.Module):
    r"""Pairs of an image x and a label y, as one image.

    ============================= =========================================
    ``top-left``                  the first C pixels, row by row, are 0, and
                                  the y-th of them has the largest value of
                                  the image, in each channel
    ``average-subtraction``       :math:`x - \mu_y`
    ``average-mixture``           :math:`(x + \mu_y) / 2`
    ``average-2channel``          x and :math:`\mu_y`, side by side in the
                                  channels
    ``fixed-example-subtraction`` the same three with an image of the class
    ``fixed-example-mixture``     in place of its mean :math:`\mu_y`
    ``fixed-example-2channel``
    ============================= =========================================

    Images are normalized ones, whose 0 is the mean of the data set.

    Args:
        method (str): One of these.
        num_classes (int): C.
        image_shape (Sequence[int]): Channels, height and width of x.
        peak (str): Where ``top-left`` takes its largest value from: the
            'image', or, as published, the 'batch', so that a prediction
            depends on what else is predicted. Defaults to 'image'.
        negatives (str): Labels of wrong pairs: a 'wrong' one, drawn evenly,
            or, as published, those of the batch in another order
            ('permutation'), one in C of which is right. Defaults to 'wrong'.

    Attributes:
        prototypes (Tensor): :math:`\mu`, (C, channels, height, width).
        counts (Tensor): Of how many images, (C, ); 0 before :meth:`learn`.
            Both are saved in checkpoints, and are None for ``top-left``.

    Raises:
        ValueError: If an argument is none of these.
    """

    prototypes: Tensor | None
    counts: Tensor | None

    def __init__(
        self,
        method: str,
        num_classes: int,
        image_shape: Sequence[int],
        peak: str = 'image',
        negatives: str = 'wrong',
    ):
        super().__init__()
        _check(method, num_classes, image_shape, peak, negatives)
        self.method = method
        self.num_classes = num_classes
        self.peak = peak
        self.negatives = negatives
        self._known = False
        prototypes = counts = None
        if self.has_prototypes:
            prototypes = torch.zeros(num_classes, *image_shape)
            counts = torch.zeros(num_classes, dtype=torch.int64)
        self.register_buffer('prototypes', prototypes)
        self.register_buffer('counts', counts)

    @property
    def has_prototypes(self) -> bool:
        """Whether :meth:`learn` has to come first."""
        return self.method != 'top-left'

    @property
    def known(self) -> bool:
        """Whether there is nothing to learn any more."""
        self._known |= not self.has_prototypes or bool(self.counts.all())
        return self._known

    def forward(
        self, images: Tensor, labels: Tensor, peak: Tensor | None = None
    ) -> Tensor:
        """Put a label into each image.

        Args:
            images (Tensor): (N, channels, H, W).
            labels (Tensor): (N, ), int64.
            peak (Tensor, optional): (N, ); by default :meth:`peaks`.

        Returns:
            Tensor: The same shape; twice the channels for ``2channel``.

        Raises:
            ValueError: If there are no prototypes yet.
        """
        if not self.has_prototypes:
            if peak is None:
                peak = self.peaks(images)
            return _mark(images, labels, self.num_classes, peak)
        if not self.known:
            raise ValueError(
                f'model.embedding.method={self.method!r} needs a prototype '
                'of each class, and there is none: write custom_hooks='
                "[dict(type='mmlocal.ClassPrototypeHook')], or load a "
                'checkpoint of a training that had it.'
            )
        prototypes = self.prototypes[labels]
        if self.method.endswith('subtraction'):
            return images - prototypes
        if self.method.endswith('mixture'):
            return 0.5 * images + 0.5 * prototypes
        return torch.cat([images, prototypes], 1)

    def peaks(self, images: Tensor) -> Tensor:
        """The largest value of each image, or of the batch; (N, )."""
        peaks = images.flatten(1).amax(1)
        return peaks if self.peak == 'image' else peaks.max().expand_as(peaks)

    def pairs(self, images: Tensor, labels: Tensor) -> Tensor:
        """Right and wrong pairs, (2 N, ...), the right ones first."""
        if self.negatives == 'permutation':
            order = torch.randperm(len(labels), device=labels.device)
            wrong = labels[order]
        else:
            shift = torch.randint_like(labels, 1, self.num_classes)
            wrong = (labels + shift) % self.num_classes
        peak = None if self.has_prototypes else self.peaks(images)
        return torch.cat(
            [self(images, each, peak) for each in (labels, wrong)]
        )

    def trials(self, images: Tensor, max_rows: int) -> Iterator[Tensor]:
        """Each image with all labels in turn, in chunks.

        Args:
            images (Tensor): (N, channels, H, W).
            max_rows (int): Pairs in a chunk; at least C.

        Yields:
            Tensor: (n * C, ...), the labels of an image one after another.
        """
        size, count = max(1, max_rows // self.num_classes), self.num_classes
        peaks = self.peaks(images)
        labels = torch.arange(count, device=images.device)
        for part, peak in zip(
            images.split(size), peaks.split(size), strict=True
        ):
            yield self(
                part.repeat_interleave(count, 0),
                labels.repeat(len(part)),
                peak.repeat_interleave(count),
            )

    @torch.no_grad()
    def learn(self, batches: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Compute the prototypes.

        Args:
            batches (Iterable): Images (N, channels, H, W), normalized, and
                their labels (N, ).

        Raises:
            ValueError: If there is no image of a class.
        """
        shape = self.prototypes.shape
        sums = self.prototypes.new_zeros(shape, dtype=torch.float64)
        counts = torch.zeros_like(self.counts)
        for images, labels in batches:
            if images.shape[1:] != shape[1:]:
                raise ValueError(
                    f'model.embedding: images are {tuple(images.shape[1:])}, '
                    f'but the prototypes {tuple(shape[1:])}: write '
                    'model.backbone.input_shape for such images (with twice '
                    'the channels for a 2channel method).'
                )
            key = 'model.embedding.num_classes'
            check_labels(labels, self.num_classes, key=key)
            if self.method.startswith('fixed'):
                images, labels = _first_of_each(images, labels, counts)
            sums.index_add_(0, labels, images.to(sums))
            counts += labels.bincount(minlength=self.num_classes)
            if self.method.startswith('fixed') and counts.all():
                break
        if not counts.all():
            missing = (counts == 0).nonzero().flatten().tolist()
            raise ValueError(
                f'the training set has no image of class {missing}, of which '
                f'model.embedding.method={self.method!r} needs a prototype: '
                'write num_classes as in the data, or choose '
                "method='top-left'."
            )
        sums /= counts.view(-1, 1, 1, 1)
        self.prototypes.copy_(sums)
        self.counts.copy_(counts)


def _mark(images: Tensor, labels: Tensor, count: int, peak: Tensor) -> Tensor:
    """The first pixels stand for the classes."""
    n, channels = images.shape[:2]
    rows = images.flatten(2)
    if rows.shape[2] < count:
        raise ValueError(
            f"model.embedding.method='top-left' marks one of {count} pixels, "
            f'and images have {rows.shape[2]}: choose another method.'
        )
    marks = rows.new_zeros(n, channels, count)
    places = labels.view(-1, 1, 1).expand(-1, channels, 1)
    marks.scatter_(2, places, peak.view(-1, 1, 1).expand(-1, channels, 1))
    return torch.cat([marks, rows[:, :, count:]], 2).view_as(images)


def _first_of_each(
    images: Tensor, labels: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """Of the classes that have no image yet."""
    found = counts.tolist()
    places = []
    for place, label in enumerate(labels.tolist()):
        if not found[label]:
            found[label] = 1
            places.append(place)
    return images[places], labels[places]


def _check(
    method: str,
    num_classes: int,
    image_shape: Sequence[int],
    peak: str,
    negatives: str,
) -> None:
    for key, value, known in [
        ('method', method, METHODS),
        ('peak', peak, ('image', 'batch')),
        ('negatives', negatives, NEGATIVES),
    ]:
        if value not in known:
            raise ValueError(
                f'model.embedding.{key}={value!r} is unknown: write one of '
                f'{known}.'
            )
    if num_classes < 2:
        raise ValueError(
            f'model.embedding.num_classes={num_classes}: a wrong label needs '
            'two classes or more.'
        )
    if len(image_shape) != 3:
        raise ValueError(
            f'model.embedding: images are (channels, height, width), not '
            f'{tuple(image_shape)}.'
        )
