"""Images taken apart into overlapping patches."""

from __future__ import annotations

from torch import Tensor, nn


class PatchGrid(nn.Module):
    """Moves the patches of an image into the batch axis, and back.

    The patches of an image follow one another, row by row; those that would
    reach beyond the border are left out.

    Args:
        patch_size (int): Side of a patch in pixels. Defaults to 16.
        stride (int): Pixels from one patch to the next. Defaults to 8.

    Raises:
        ValueError: If one of them is no whole number above 0.
    """

    def __init__(self, patch_size: int = 16, stride: int = 8):
        super().__init__()
        for key, value in ('patch_size', patch_size), ('stride', stride):
            if not isinstance(value, int) or value < 1:
                raise ValueError(
                    f'{key}={value!r} must be a whole number of pixels, 1 or '
                    'more: Greedy InfoMax has patches of 16 with a stride of '
                    '8.'
                )
        self.patch_size = patch_size
        self.stride = stride

    def forward(self, images: Tensor) -> Tensor:
        """(N, C, H, W) to (N * rows * columns, C, p, p)."""
        self.grid(*images.shape[-2:])
        size, stride = self.patch_size, self.stride
        patches = images.unfold(2, size, stride).unfold(3, size, stride)
        return patches.permute(0, 2, 3, 1, 4, 5).flatten(0, 2)

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of patches in an image.

        Raises:
            ValueError: If the image is smaller than a patch.
        """
        if min(height, width) < self.patch_size:
            raise ValueError(
                f'an image of {height}x{width} has no patch of '
                f'{self.patch_size} pixels: write a smaller patch_size, or '
                'larger images.'
            )
        return tuple(
            (side - self.patch_size) // self.stride + 1
            for side in (height, width)
        )

    def to_grid(self, feat: Tensor, height: int, width: int) -> Tensor:
        """Features of patches back on the grid of their image.

        Args:
            feat (Tensor): As of :func:`on_grid`.
            height (int): Of the image.
            width (int): Of the image.

        Returns:
            Tensor: (N, C, rows, columns).
        """
        return on_grid(feat, *self.grid(height, width))

    def extra_repr(self) -> str:
        """For ``print``."""
        return f'patch_size={self.patch_size}, stride={self.stride}'


def on_grid(feat: Tensor, rows: int, columns: int) -> Tensor:
    """The mean over the positions of each patch, on the grid of patches.

    Args:
        feat (Tensor): Maps (N * rows * columns, C, h, w), tokens
            (..., L, C) or vectors (..., C); patches row by row.
        rows (int): Of patches in an image.
        columns (int): Of patches in an image.

    Returns:
        Tensor: (N, C, rows, columns).

    Raises:
        ValueError: If that many patches do not divide the batch.
    """
    count = rows * columns
    if len(feat) % count:
        raise ValueError(
            f'{len(feat)} features are not those of images with {rows}x'
            f'{columns} = {count} patches each: images of another size, or '
            'another patch_size and stride, give other grids.'
        )
    if feat.ndim > 2:
        feat = feat.mean(1) if feat.ndim == 3 else feat.mean((2, 3))
    return feat.unflatten(0, (-1, rows, columns)).permute(0, 3, 1, 2)
