_base_ = './convnet6-buffer_cifar10_k6.py'
# Batches are chosen as in the authors' code. At each drop of a module's rate
# that module gets a new optimizer, and the warm-up is run again.
train_cfg = dict(
    _delete_=True,
    type='mmlocal.ReplayTrainLoop',
    max_epochs=_base_.train_cfg.max_epochs,
    buffer=dict(size=30, as_published=True),
    warm_up_at=[0, *_base_.milestones],
    reset_at=_base_.milestones,
)
custom_hooks = [dict(type='mmlocal.LocalLossHook')]
