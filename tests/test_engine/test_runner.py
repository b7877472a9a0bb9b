"""Local training through mmengine's Runner."""

import torch


def test_resumed_run_gives_the_losses_of_an_unbroken_one(cfg, run, tmp_path):
    """Stopped after two of four epochs, value for value."""
    _, expected = run(cfg, 'whole', work_dir=str(tmp_path / 'whole'))
    parts = str(tmp_path / 'parts')
    _, first = run(cfg, 'first', until=2, work_dir=parts)
    _, second = run(cfg, 'second', resume=True, work_dir=parts)
    assert len(first) == 4 and len(second) == 4
    keys = {key for key in expected[0] if 'loss' in key}
    assert 'train/local_1.loss_recon' in keys and 'train/loss' in keys
    for found, value in zip([*first, *second], expected, strict=True):
        assert {k: found[k] for k in keys} == {k: value[k] for k in keys}


def test_ema(cfg, run):
    hooks = [*cfg['custom_hooks'], {'type': 'EMAHook', 'momentum': 0.5}]
    runner, _ = run(cfg, 'ema', custom_hooks=hooks)
    ema = runner.hooks[
        [type(h).__name__ for h in runner.hooks].index('EMAHook')
    ].ema_model
    averaged = dict(ema.module.state_dict())
    assert averaged.keys() == runner.model.state_dict().keys()
    assert any(
        not torch.equal(value, averaged[key])
        for key, value in runner.model.state_dict().items()
        if 'weight' in key
    )
    path = f'{runner.work_dir}/epoch_4.pth'
    saved = torch.load(path, weights_only=False)
    assert 'backbone.conv1.weight' in saved['state_dict']
    assert 'module.backbone.conv1.weight' in saved['ema_state_dict']


def test_amp_accumulation_and_clipping_together(cfg, run):
    runner, values = run(
        cfg,
        'amp',
        optim_wrapper={
            'type': 'mmlocal.LocalAmpOptimWrapper',
            'dtype': 'bfloat16',
            'accumulative_counts': 2,
            'clip_grad': {'max_norm': 1.0},
            'optimizer': {'type': 'SGD', 'lr': 0.05},
        },
    )
    assert all(
        v == v and abs(v) < 1e4 for each in values for v in each.values()
    )
    assert runner.optim_wrapper.inner_count == 8
