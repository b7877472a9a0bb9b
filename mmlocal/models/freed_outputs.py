"""Tensors of modules that have trained already, and whose graph is freed."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import Node

from .structure import Path, leaves, replaced


def graph_nodes(tensor: Tensor, known: set[Node]) -> set[Node]:
    """Nodes of the autograd graph behind ``tensor``, up to ``known`` ones.

    Without those of weights, which are no part of one graph: a weight that
    two modules share has the same node in both.
    """
    nodes: set[Node] = set()
    stack = [tensor.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in nodes or node in known:
            continue
        if not _is_weight(node):
            nodes.add(node)
            stack.extend(_parents(node))
    return nodes


def detach_finished(
    outputs: Any, finished: set[Node]
) -> tuple[Any, list[str]]:
    """Detach what stems from finished modules.

    Args:
        outputs (Any): A backbone's outputs: tensors in lists, tuples and
            dicts.
        finished (set[Node]): Nodes of graphs that are freed.

    Returns:
        tuple: The outputs, of the same structure, and the paths of those
        that were detached, as ``outs[0]``.
    """
    alive: set[Node] = set()
    detached: list[str] = []

    new: dict[Path, Tensor] = {}
    for path, value in leaves(outputs):
        if not isinstance(value, Tensor) or value.grad_fn is None:
            continue
        nodes = graph_nodes(value, alive | finished)
        parents = {parent for node in nodes for parent in _parents(node)}
        if finished.isdisjoint(parents | {value.grad_fn}):
            alive.update(nodes)
            continue
        detached.append('outs' + ''.join(f'[{key!r}]' for key in path))
        new[path] = _cut_off(value, nodes)
    return replaced(outputs, new), detached


def detach_kept(backbone: nn.Module, finished: set[Node]) -> list[str]:
    """Detach what stems from finished modules and is kept as an attribute.

    The neck of BEiT v2 reads the position bias that its backbone keeps.

    Returns:
        list[str]: Names of the attributes that were detached.
    """
    detached = []
    for name, module in backbone.named_modules():
        for key, value in list(vars(module).items()):
            if isinstance(value, Tensor):
                new, stems = detach_finished(value, finished)
                if stems:
                    setattr(module, key, new)
                    detached.append(f'{name}.{key}'.lstrip('.'))
    return detached


def _parents(node: Node) -> list[Node | None]:
    return [parent for parent, _ in node.next_functions]


def _is_weight(node: Node | None) -> bool:
    return hasattr(node, 'variable')


def _cut_off(output: Tensor, nodes: set[Node]) -> Tensor:
    """Detach an output from a finished module, not from its own layers.

    ``nodes`` are those between the module and the output, as the norm layer
    that Swin and ConvNeXt have at each output.
    """
    parents = (parent for node in nodes for parent in _parents(node))
    leaves = dict.fromkeys(filter(_is_weight, parents))
    weights = [leaf.variable for leaf in leaves]
    if not weights:
        return output.detach()
    return _OwnLayers.apply([output], output.detach(), *weights)


class _OwnLayers(torch.autograd.Function):
    """Leads a gradient to an output's own layers and no further.

    The weights are inputs of the node, so that DDP finds them in the graph.
    """

    @staticmethod
    def forward(ctx, attached: list[Tensor], detached: Tensor, *weights):
        ctx.attached, ctx.weights = attached, weights
        return detached.view_as(detached)

    @staticmethod
    def backward(ctx, grad: Tensor):
        (output,) = ctx.attached
        return None, None, *torch.autograd.grad(output, ctx.weights, grad)
