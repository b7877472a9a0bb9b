"""What of a model is gathered at a time where its weights are sharded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from torch import nn

from .step import local_backbone


def find_units(
    model: nn.Module, chosen: Sequence[str] = ()
) -> dict[str, nn.Module]:
    """The submodules whose weights are gathered and freed together.

    A unit lies within one module of the local training: the blocks of the
    backbone, and outside of them each layer with weights of its own. What
    holds a boundary, or one of these, is none.

    Args:
        model (nn.Module): With or without a cut backbone.
        chosen (Sequence[str]): Names of further submodules to be units as a
            whole. Defaults to ().

    Returns:
        dict[str, nn.Module]: By name, in the order of registration.

    Raises:
        ValueError: If a chosen name is none of the model's, holds a boundary,
            or lies in another one; or two units share a weight.
    """
    names = {module: name for name, module in model.named_modules()}
    backbone = local_backbone(model)
    blocks, cuts = set(), set()
    if backbone is not None:
        blocks = {names[block] for block in backbone.block_modules.values()}
        cuts = {names[cut] for cut in backbone.boundary_modules.values()}
    _check_chosen(chosen, {*names.values()}, cuts)
    found: dict[str, nn.Module] = {}

    def visit(name: str, module: nn.Module) -> None:
        if next(module.parameters(), None) is None:
            return
        owns = any(w is not None for w in module._parameters.values())
        splits = _lies_in(name, cuts | {*chosen})
        is_layer = owns and not _lies_in(name, blocks)
        if name in chosen or not splits and (name in blocks or is_layer):
            found[name] = module
            return
        for child, submodule in module.named_children():
            visit(f'{name}.{child}' if name else child, submodule)

    visit('', model)
    _check_shared(found)
    return found


def loose_weights(
    model: nn.Module, units: dict[str, nn.Module]
) -> Iterator[tuple[str, nn.Module, list[str]]]:
    """Weights outside of units, as the class token of a ViT.

    Yields:
        tuple: Name of the module that holds them, the module, and the
        weights' names in it.
    """
    for name, module in model.named_modules():
        own = [key for key, w in module._parameters.items() if w is not None]
        inside = any(name == u or name.startswith(f'{u}.') for u in units)
        if own and not inside:
            yield name, module, own


def _lies_in(name: str, others: set[str]) -> bool:
    """Whether one of the others lies strictly in the submodule."""
    start = f'{name}.' if name else ''
    return any(other.startswith(start) and other != name for other in others)


def _check_chosen(
    chosen: Sequence[str], names: set[str], cuts: set[str]
) -> None:
    for name in chosen:
        if name not in names:
            raise ValueError(
                f'model_wrapper_cfg.units: the model has no {name!r}; names '
                "are those of submodules, as 'decode_head.conv_seg'."
            )
        if _lies_in(name, cuts):
            raise ValueError(
                f'model_wrapper_cfg.units: {name!r} holds a boundary, where '
                'a module ends in the middle of its forward: name something '
                'within one module.'
            )
        if _lies_in(name, {*chosen}):
            raise ValueError(
                f'model_wrapper_cfg.units: {name!r} holds another one of '
                'them: name the outer one alone, or the inner one.'
            )


def _check_shared(units: dict[str, nn.Module]) -> None:
    count = Counter(w for unit in units.values() for w in {*unit.parameters()})
    shared = {weight for weight, number in count.items() if number > 1}
    if shared:
        holders = [
            name
            for name, unit in units.items()
            if shared & {*unit.parameters()}
        ]
        raise ValueError(
            f'model_wrapper_cfg: {", ".join(holders)} share a weight, which '
            'is gathered and reduced with one of them only: name a submodule '
            'around them in units=[...], or write '
            "type='mmlocal.LocalDistributedDataParallel'."
        )
