import pytest


@pytest.mark.parametrize('batch', [4, 2])
def test_resuming_with_another_global_batch_says_so(cfg, run, tmp_path, batch):
    run(cfg, 'first', until=2)
    cfg['train_dataloader']['batch_size'] = batch
    runner, _ = run(cfg, 'second', resume=True)
    assert runner.epoch == 4
    log = max(tmp_path.glob('*/*.log'), key=lambda path: path.stat().st_mtime)
    text = log.read_text()
    change = 'changed: 2 images (1 ranks of 2), where the checkpoint was '
    assert ('the global batch has' in text) == (batch == 2)
    assert (change + 'trained with 4 (1 ranks of 4)' in text) == (batch == 2)
