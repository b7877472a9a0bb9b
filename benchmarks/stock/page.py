"""What a sweep found, as a table and as a page of the documents."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mmlocal.planner import report
from stock.configs import stock_configs

HEADS = ('greedy', 'infopro')
MODES = ('block', 'selective')
NEEDED = ('plan', 'cut', *HEADS)
HEAD = """\
# Backbones: what can be cut, and what a cut saves

Made by `python benchmarks/sweep.py --out work_dirs/sweep --page
docs/backbones.md`: of the configs that the installed mmseg and mmpretrain ship
the smallest of a family. Each is planned as it is, with its own batch, crop,
optimizer and precision: the shares are of end to end's memory on a GPU
(prediction), with the local head that the planner proposes, without
checkpointing. A share above 1 says that the head takes more than the cut
frees.

Then it is cut by `EqualDepth(2)` and trained one step on two small images, by
a greedy head and by InfoPro's. The gradients are those of one plain backward a
loss, and those with checkpointing those without ("yes": to 0.0001 of the
largest of each weight, in float64 if rounding is more than that in float32).
Plan your own config with [`tools/plan_memory.py`](memory.md).
"""


def outcome(result: dict[str, Any]) -> str:
    """One line."""
    checks = result['checks']
    seconds = sum(check.get('seconds', 0) for check in checks.values())
    bad = [
        f'{name} {check["status"]}: {check.get("reason", "")[:200]}'
        for name, check in checks.items()
        if check['status'] != 'ok'
    ]
    if result.get('end'):
        bad.append(result['end'])
    return f'{seconds:.0f} s, {"; ".join(bad) or "ok"}'


def write(out: Path, page: Path | None = None) -> None:
    """Write all results that are there.

    Args:
        out (Path): Of the sweep; gets sweep.json and sweep.md.
        page (Path, optional): Gets the page of the documents.
    """
    files = sorted((out / 'cases').rglob('*.json'))
    results = [json.loads(file.read_text()) for file in files]
    # A run may have been stopped in the middle of one.
    results = [result for result in results if 'end' in result]
    report.write_json(out / 'sweep.json', {'results': results})
    text = '\n'.join([HEAD, *summary(results), '', *table(results), ''])
    text = '\n'.join([text, *refusals(results), ''])
    (out / 'sweep.md').write_text(text)
    if page is not None:
        page.write_text(text)


def summary(results: Sequence[dict]) -> Iterator[str]:
    """How many did what."""
    trained = [r for r in results if _status(r, 'trains') == 'ok']
    good = [r for r in trained if all(_status(r, c) == 'ok' for c in NEEDED)]
    kept = [r for r in good if all(_status(r, c) == 'ok' for c in MODES)]
    yield (
        f'Of {len(results)} configs {len(trained)} train end to end here; '
        f'{len(good)} of those ({len(good) / max(len(trained), 1):.0%}) are '
        f'planned, cut and trained by both heads, {len(kept)} with both ways '
        'of checkpointing.'
    )
    families = {config.family for config in stock_configs()}
    if left := families - {result['family'] for result in results}:
        yield ''
        yield (
            f'**{len(left)} of {len(families)} families have not been run '
            'yet**, and nothing is said of them; the command above goes on.'
        )


def table(results: Sequence[dict]) -> Iterator[str]:
    """Those that train end to end, one a row."""
    columns = ['family', 'backbone', 'batch', 'places to cut']
    columns += [*HEADS, *MODES, 'K=2', 'K=3', 'K=4']
    yield f'| {" | ".join(columns)} |'
    yield f'|{" --- |" * len(columns)}'
    for result in results:
        if _status(result, 'trains') != 'ok':
            continue
        places = result.get('num_places', 0)
        names = f' ({result["places"]})' if result.get('places') else ''
        cells = [result['family'], result['backbone']]
        cells += [_batch(result), f'{places}{names}']
        cells += [_mark(result, check) for check in (*HEADS, *MODES)]
        plans = result['checks'].get('plan', {}).get('plans', [])
        cells += [_plan(plan) for plan in plans]
        cells += ['-'] * (len(columns) - len(cells))
        yield f'| {" | ".join(cells)} |'


def refusals(results: Sequence[dict]) -> Iterator[str]:
    """What is refused, and why."""
    refused, untrained = [], []
    for result in results:
        name, reason = _first_refusal(result)
        if name in NEEDED + MODES:
            refused.append(f'* {result["family"]}, {name}: {reason}')
        elif name:
            untrained.append(f'* {result["family"]}: {reason}')
    yield '## What is refused, and why\n'
    yield from refused or ['None of these.']
    yield '\n## What is not put to the test, and why\n'
    yield 'It does not train end to end here, or has no backbone of its own.\n'
    yield from untrained or ['None of these.']


def _first_refusal(result: dict) -> tuple[str, str]:
    for name, check in result['checks'].items():
        if name != 'budget' and check['status'] != 'ok':
            reason = check.get('reason') or result.get('end', '')
            return name, _one_line(reason)
    if not result['checks'] or 'trains' not in result['checks']:
        return 'config', _one_line(result.get('end', ''))
    return '', ''


def _one_line(text: str) -> str:
    text = re.sub(r'/\S*/site-packages/', '', ' '.join(text.split()))
    # Where this machine has what.
    text = re.sub(r', the current sys\.path is.*', '', text)
    return text if len(text) < 300 else f'{text[:300]} ...'


def _status(result: dict, check: str) -> str:
    return result['checks'].get(check, {}).get('status', 'not run')


def _mark(result: dict, check: str) -> str:
    return 'yes' if _status(result, check) == 'ok' else 'no'


def _batch(result: dict) -> str:
    setting = result.get('planned_for')
    if setting is None:
        return '-'
    height, width = setting['image_size']
    return f'{setting["batch_size"]} of {height}x{width}'


def _plan(plan: dict) -> str:
    names = ', '.join(f'`{name}`' for name in plan['boundaries'])
    return f'{plan["share"]:.2f} {names}'
