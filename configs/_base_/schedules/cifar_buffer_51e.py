_base_ = './cifar_step_50e.py'
# Of DGL's experiments with replay buffers, as their code counts: it means 15,
# 30, 45 and 50, and makes a new optimizer at each drop.
milestones = [17, 32, 47]
param_scheduler = [dict(type='MultiStepLR', milestones=milestones, gamma=0.2)]
custom_hooks = [
    dict(type='mmlocal.ResetOptimizerStateHook', milestones=milestones)
]
train_cfg = dict(max_epochs=51)
