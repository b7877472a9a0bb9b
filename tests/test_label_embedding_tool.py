"""tools/analysis_tools/label_embedding.py."""

import importlib.util
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / 'configs/forward_forward/ff_mlp_digits.py'
PATH = ROOT / 'tools/analysis_tools/label_embedding.py'
SPEC = importlib.util.spec_from_file_location('tools_label_embedding', PATH)
TOOL = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(TOOL)


@pytest.mark.slow
def test_what_is_drawn():
    """Of the third test image and the training set's prototypes."""
    found = TOOL.embeddings(Config.fromfile(DIGITS), 2)
    image = found.pop('')
    assert image.shape == (1, 1, 8, 8) and len(found) == 7
    for method, images in found.items():
        channels = 2 if method.endswith('2channel') else 1
        assert images.shape == (10, channels, 8, 8)
        assert len(torch.unique(images, dim=0)) == 10
    difference = image - found['average-subtraction']
    torch.testing.assert_close(found['average-2channel'][:, 1:], difference)


@pytest.mark.slow
def test_picture(tmp_path, capsys):
    out = tmp_path / 'labels.png'
    TOOL.main([str(DIGITS), '--out', str(out)])
    assert str(out) in capsys.readouterr().out
    width, height = Image.open(out).size
    assert width > 700 and height > 400


@pytest.mark.parametrize(
    ('argv', 'message'),
    [
        ([DIGITS, '--image', 350], 'there are 350 images'),
        ([ROOT / 'configs/e2e/ff-mlp_digits.py'], 'no model.embedding'),
    ],
)
def test_mistakes(tmp_path, capsys, argv, message):
    with pytest.raises(SystemExit) as info:
        TOOL.main([*map(str, argv), '--out', str(tmp_path / 'no.png')])
    assert info.value.code == 2
    assert message in capsys.readouterr().err
