_base_ = './resnet50_stl10.py'
# The published probe of the last module: a linear classifier, on augmented
# images; load_from names the checkpoint of a training.
train_dataloader = dict(dataset=dict(split='train'))
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialTrainLoop',
    epochs=0,
    head_epochs=300,
    val_interval=10,
)
optim_wrapper = dict(optimizer=dict(lr=1e-3))
