_base_ = './resnet50_stl10.py'
# As many epochs for each module as there for all.
train_cfg = dict(
    _delete_=True,
    type='mmlocal.SequentialTrainLoop',
    epochs=300,
    val_begin=1000,
)
