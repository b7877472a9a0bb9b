"""The repeated blocks of a backbone, found by their names."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

CONTAINERS = (nn.Sequential, nn.ModuleList)


def block_names(backbone: nn.Module) -> Iterator[str]:
    """Names of elements of lists of modules, in registration order.

    Single layers inside of another block are left out, whole stages are not:
    of ResNet this gives ``layer1.0 .. layer4.2``, of Swin ``stages.0`` and
    ``stages.0.blocks.0`` as well.
    """
    modules = dict(backbone.named_modules())
    for name, module in modules.items():
        parent, _, child = name.rpartition('.')
        if not (child.isdigit() and isinstance(modules[parent], CONTAINERS)):
            continue
        parts = parent.split('.')
        outer = ('.'.join(parts[:i]) for i in range(1, len(parts) + 1))
        inside_block = any(_is_block(each, modules[each]) for each in outer)
        if not inside_block or weight_layers(module) > 1:
            yield name


def innermost_blocks(backbone: nn.Module) -> list[str]:
    """Of :func:`block_names` those that hold layers, but no other block.

    Without any, as in MobileNetV3 and InceptionV3, the backbone's own
    submodules that hold layers.
    """
    modules = dict(backbone.named_modules())
    names = [
        name
        for name in block_names(backbone)
        if any(modules[name].children()) and weight_layers(modules[name])
    ]
    if not names:
        return [
            name
            for name, child in backbone.named_children()
            if any(child.children()) and weight_layers(child)
        ]
    return [
        name
        for name in names
        if not any(other.startswith(f'{name}.') for other in names)
    ]


def weight_layers(module: nn.Module) -> int:
    """How many convolutions and linear layers a module holds."""
    kinds = (nn.Linear, nn.modules.conv._ConvNd)
    return sum(isinstance(child, kinds) for child in module.modules())


def _is_block(name: str, module: nn.Module) -> bool:
    return name.rpartition('.')[2].isdigit() and (
        not isinstance(module, CONTAINERS) or weight_layers(module) < 2
    )
