"""What a network and its modules see in an image, and pictures of it."""

from .drawing import (
    draw_annotations,
    draw_classification,
    draw_modules,
    draw_segmentation,
)
from .views import (
    Prediction,
    View,
    annotation_of,
    predictions_of,
    to_images,
)

__all__ = [
    'Prediction',
    'View',
    'annotation_of',
    'draw_annotations',
    'draw_classification',
    'draw_modules',
    'draw_segmentation',
    'predictions_of',
    'to_images',
]
