"""What a plan tells its user: what to write, and what to know."""

from __future__ import annotations

from collections.abc import Iterable

from mmlocal.config import LOCAL_BACKBONE, has_hook, type_name

from .step_report import StepReport
from .training_setting import TrainingSetting


def config_lines(
    report: StepReport, setting: TrainingSetting, base: str
) -> str:
    """What to write into a config for a plan.

    Args:
        report (StepReport): Of the plan.
        setting (TrainingSetting): What was planned. Lines for a config that
            does not train locally yet are a config of their own.
        base (str): Path of the config.
    """
    modes = list(report.split.checkpointing)
    mode = modes[0] if len(set(modes)) == 1 else modes
    lines = [
        f'boundaries={list(report.split.boundaries)!r}',
        f'checkpointing={mode!r}',
    ]
    before = after = ''
    if not setting.is_local:
        if not report.split.boundaries and not any(modes):
            return 'end to end fits: no change is needed'
        lines = [
            '_delete_=True',
            f'type={LOCAL_BACKBONE!r}',
            'backbone=_base_.model.backbone',
            *lines,
            f'local_heads=dict({_arguments(setting.proposed_heads)})',
        ]
        hooks = list(setting.hooks)
        if not has_hook(hooks, 'LocalLossHook'):
            hooks.append({'type': 'mmlocal.LocalLossHook'})
        wrapper = 'mmlocal.LocalDistributedDataParallel'
        before = f'_base_ = {base!r}\n'
        after = (
            f'\noptim_wrapper = dict({_arguments(_optim_lines(setting))})\n'
            f'custom_hooks = {hooks!r}\n'
            f'model_wrapper_cfg = dict(type={wrapper!r})'
        )
    body = '\n'.join(f'        {line},' for line in lines)
    model = f'model = dict(\n    backbone=dict(\n{body}\n    ))'
    return before + model + after


def describe_floor(report: StepReport, top: int = 3) -> str:
    """The largest parts of a plan's peak."""
    parts = sorted(report.bands.items(), key=lambda item: -item[1])[:top]
    return ', '.join(f'{name} {size / 2**30:.2f} GiB' for name, size in parts)


def warnings_of(reports: Iterable[StepReport]) -> list[str]:
    """What a user should know of the reports, once each."""
    found: dict[str, None] = {}
    for report in reports:
        for path, size in report.unread.items():
            found[
                f'{path} of the backbone stays in memory ({size / 2**20:.0f} '
                'MiB) and no head reads it: leave it out of out_indices '
                '(and shift in_index of the heads).'
            ] = None
        for name in report.guessed:
            found[
                f'{name} has no fake implementation and ran on zeros: slow, '
                'and its output may have another size with real data.'
            ] = None
    return list(found)


def _optim_lines(setting: TrainingSetting) -> dict:
    """What changes of the optimizer wrapper."""
    lines = {'type': setting.optim_cfg['type']}
    constructor = setting.optim_cfg.get('constructor')
    name = 'mmlocal.PlainNamesConstructor'
    if constructor is not None and type_name(constructor) != type_name(name):
        lines['constructor'] = name
        lines['paramwise_cfg'] = {'constructor': constructor}
    return lines


def _arguments(values: dict) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in values.items())
