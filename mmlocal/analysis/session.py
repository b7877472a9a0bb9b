"""Several measures of one model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mmlocal.registry import MEASURES

from .extract import Extractor
from .measure import Measure, Values


def measure_modules(
    measures: Iterable[Measure],
    extractor: Extractor,
    reference: Extractor | None = None,
) -> dict[str, Values]:
    """Measure the modules of a model.

    Args:
        measures (Iterable[Measure]): What.
        extractor (Extractor): Of the model.
        reference (Extractor, optional): Of another network, to which some
            measures compare.

    Returns:
        dict[str, Values]: By name of the measure.
    """
    found = {}
    for measure in measures:
        readings = measure.readings
        features: dict[str, Any] = {
            name: extractor.read(reading) for name, reading in readings.items()
        }
        if measure.references:
            (reading,) = readings.values()
            features['reference'] = reference and reference.read(reading)
        found[measure.name] = measure.measure(**features)
    return found


def build_measures(cfgs: Sequence[Mapping[str, Any]]) -> list[Measure]:
    """Build the measures of a config.

    Args:
        cfgs (Sequence[Mapping]): Each with its ``type``, as
            ``dict(type='NHSICPlane', m=64)``.

    Raises:
        ValueError: If there is no such measure, or one twice.
    """
    measures = []
    for cfg in cfgs:
        kind = cfg.get('type')
        if isinstance(kind, str) and MEASURES.get(kind) is None:
            raise ValueError(
                f'measures: there is no {kind!r}; there are '
                f'{sorted(MEASURES.module_dict)}.'
            )
        measures.append(MEASURES.build(dict(cfg)))
    names = [measure.name for measure in measures]
    for name in {*names}:
        if names.count(name) > 1:
            raise ValueError(f'measures: {name!r} is there twice.')
    return measures
