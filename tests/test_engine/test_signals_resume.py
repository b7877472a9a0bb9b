"""Signal Propagation through a Runner, stopped and resumed."""

import torch
from mmengine.hooks import Hook


class SeedEpochs(Hook):
    """Masks of dropout are alike in a run that is resumed."""

    def before_train_epoch(self, runner):
        torch.manual_seed(runner.epoch)


def test_resume_gives_the_same_losses(cfg, run, tmp_path):
    head = {'type': 'mmlocal.SigPropHead', 'num_classes': 10}
    cfg['model']['backbone'] |= {
        'backbone': {'type': 'mmlocal.SigPropConvNet'},
        'boundaries': ['layers.1', 'layers.2', 'layers.3'],
        'local_heads': {**head, 'target': 'hard'},
        'local_end': True,
    }
    cfg['model']['head']['in_channels'] = 128
    cfg['custom_hooks'].append(SeedEpochs())
    whole, values = run(cfg, 'whole', work_dir=str(tmp_path / 'whole'))
    run(cfg, 'stopped', until=2)
    resumed, rest = run(cfg, 'resumed', resume=True)
    assert len(values) == 8 and rest == values[4:]
    assert 'train/local_3.loss_signal' in rest[0]
    for key, value in whole.model.state_dict().items():
        assert torch.equal(resumed.model.state_dict()[key], value), key
