_base_ = '../infopro/deeplabv3_r101_cityscapes.py'
# Read only when distributed.
model_wrapper_cfg = dict(type='mmlocal.ModuleParallel')
